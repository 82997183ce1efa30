//! The lines of a text, for messages.

/// The starts of the lines of a text, so that the line of a byte is found fast.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line that contains a byte, from 1.
    pub(crate) fn line(&self, byte: usize) -> u64 {
        self.0.partition_point(|end| *end < byte) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_includes_its_end() {
        let lines = Lines::of("ab\n\nc");
        let found: Vec<u64> = (0..5).map(|byte| lines.line(byte)).collect();
        assert_eq!(found, [1, 1, 1, 2, 3]);
    }
}
