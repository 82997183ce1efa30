//! YAML as it is needed for data.yaml: maps, lists, and scalars as their text.
//!
//! Names of classes are text even if they look like numbers or truth values (`007`, `1.0`, `yes`), so that scalars are
//! kept as they are written.

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// Greatest depth of lists and maps in each other.
const MAX_DEPTH: usize = 16;

/// A value of a YAML document and its line, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub line: u64,
    pub value: Value,
}

/// A value of a YAML document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing, or `null` or `~` without quotes.
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a map; the last one if the key is repeated.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().rev().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// What the value is, for messages.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Parses a document.
///
/// # Errors
/// The line and what is wrong with it: the text is not YAML, has several documents, an alias, or too deep lists.
pub(crate) fn parse(text: &str) -> Result<Node, (u64, String)> {
    let mut parser = Parser::new_from_str(text);
    let mut reader = Reader { open: Vec::new(), root: None };
    loop {
        let (event, marker) = parser.next_token().map_err(|error| {
            (error.marker().line().max(1) as u64, format!("the text is not YAML: {}", error.info()))
        })?;
        let line = marker.line().max(1) as u64;
        if event == Event::StreamEnd {
            break;
        }
        reader.take(event, line).map_err(|reason| (line, reason))?;
    }
    Ok(reader.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

/// A document that is being read.
struct Reader {
    /// The lists and maps that have not ended; a map also has the key whose value is awaited.
    open: Vec<(Node, Option<Node>)>,
    root: Option<Node>,
}

impl Reader {
    fn take(&mut self, event: Event, line: u64) -> Result<(), String> {
        match event {
            Event::Alias(_) => Err("found an alias (*name), expected values that are written out".to_owned()),
            Event::Scalar(text, style, ..) => {
                let null = style == TScalarStyle::Plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_str());
                let value = if null { Value::Null } else { Value::Text(text) };
                self.put(Node { line, value })
            }
            Event::SequenceStart(..) => self.start(Node { line, value: Value::List(Vec::new()) }),
            Event::MappingStart(..) => self.start(Node { line, value: Value::Map(Vec::new()) }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((node, _)) => self.put(node),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: Node) -> Result<(), String> {
        if self.open.len() == MAX_DEPTH {
            return Err(format!("found lists or maps in more than {MAX_DEPTH} others"));
        }
        self.open.push((node, None));
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), String> {
        let Some((parent, key)) = self.open.last_mut() else {
            if self.root.replace(node).is_some() {
                return Err("found a second document, expected one".to_owned());
            }
            return Ok(());
        };
        match &mut parent.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
            Value::Null | Value::Text(_) => {}
        }
        Ok(())
    }
}

/// Writes a text as a scalar in double quotes, which every reader of YAML reads back as the same text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            // Not printable in YAML, or a line break in YAML 1.1.
            c if c.is_control() || ['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'].contains(&c) => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scalars_keep_their_text() {
        let root = parse("names: [007, yes, 1.0, 'it''s', \"a\\tb\", ~, null]\nnc: 7 # comment\n").unwrap();
        let Value::List(names) = &root.get("names").unwrap().value else { panic!("{root:?}") };
        let texts: Vec<Option<&str>> = names.iter().map(Node::text).collect();
        assert_eq!(texts, [Some("007"), Some("yes"), Some("1.0"), Some("it's"), Some("a\tb"), None, None]);
        assert_eq!((root.get("nc").unwrap().text(), root.get("nc").unwrap().line), (Some("7"), 2));
    }

    #[test]
    fn what_is_no_map_of_values_is_an_error_with_its_line() {
        for (text, word) in [
            ("a: [b\n", "not YAML"),
            ("a: &x b\nc: *x\n", "an alias"),
            ("a: b\n---\nc: d\n", "a second document"),
            (&"[".repeat(60), "in more than 16 others"),
            (&"[".repeat(9_999), "not YAML"),
            (&"- ".repeat(9_999), "in more than 16 others"),
        ] {
            let (_, reason) = parse(text).unwrap_err();
            assert!(reason.contains(word), "{text:.40}: {reason}");
        }
        assert_eq!(parse("a: &x b\nc: *x\n").unwrap_err().0, 2);
        assert_eq!(parse("").unwrap().value, Value::Null);
    }

    proptest! {
        #[test]
        fn quoted_text_is_read_back(text in any::<String>()) {
            let root = parse(&format!("a: [{}]\n", quoted(&text))).unwrap();
            let Value::List(items) = &root.get("a").unwrap().value else { panic!("{root:?}") };
            prop_assert_eq!(items[0].text(), Some(text.as_str()));
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}:,&*!|>'\"%@`a-c \n\t#?-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
