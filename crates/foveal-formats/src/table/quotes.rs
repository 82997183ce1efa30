//! Quotes in a table that are not closed. The reader of tables takes all that follows such a quote for one field.

use std::io::{self, Read};

/// Passes bytes on and follows the quotes in them.
pub(super) struct Quotes<R> {
    inner: R,
    state: State,
    line: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the begin of a field.
    Begin,
    /// In a field without quotes, or behind the closing quote.
    Plain,
    /// In a quoted field that began in this line.
    Quoted(u64),
    /// Behind a quote in a quoted field that began in this line: the field ends, or another quote follows.
    Ending(u64),
}

impl<R> Quotes<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, state: State::Begin, line: 1 }
    }

    /// The line, from 1, of a quoted field that has not ended so far.
    pub(super) fn unclosed(&self) -> Option<u64> {
        match self.state {
            State::Quoted(line) => Some(line),
            _ => None,
        }
    }

    fn take(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Begin, b'"') => State::Quoted(self.line),
            (State::Ending(line), b'"') => State::Quoted(line),
            (State::Quoted(line), b'"') => State::Ending(line),
            (State::Quoted(line), _) => State::Quoted(line),
            (_, b',' | b'\n' | b'\r') => State::Begin,
            _ => State::Plain,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        buffer[..count].iter().for_each(|byte| self.take(*byte));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quote_that_stays_open_is_told() {
        for (text, line) in [
            ("a,\"b\"\"c\",d\n", None),
            ("a,5\" nail,b\n", None),
            ("a,\"\",b\n", None),
            ("a,\"b\n\nc\"\n", None),
            ("a\nb,\"c\nd\n", Some(2)),
            ("\"a\"\"", Some(1)),
        ] {
            let mut quotes = Quotes::new(text.as_bytes());
            io::copy(&mut quotes, &mut io::sink()).unwrap();
            assert_eq!(quotes.unclosed(), line, "{text:?}");
        }
    }
}
