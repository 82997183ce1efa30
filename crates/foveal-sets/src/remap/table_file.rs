//! Files that list changes of classes.

use std::path::Path;

use foveal_base::text::read_text;
use serde_json::{Map, Value};

use crate::SetsError;

/// An old name, and the new one if the class is not dropped.
type Change = (String, Option<String>);

/// Reads the changes that a file lists, as JSON if its name ends in `.json`, else as a table with commas.
///
/// # Errors
/// [`SetsError::Io`] if the file cannot be read; [`SetsError::Change`] if it has another form.
pub(super) fn read(path: &Path) -> Result<Vec<Change>, SetsError> {
    let text = read_text(path).map_err(|source| SetsError::Io {
        what: "read the list of changes",
        path: path.to_owned(),
        source,
    })?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let changes = if is_json { from_json(&text) } else { from_table(&text) };
    changes.map_err(|message| SetsError::Change { path: path.to_owned(), message })
}

fn from_json(text: &str) -> Result<Vec<Change>, String> {
    const EXPECTED: &str = "expected a JSON object with a new name or null for each old name";
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("{EXPECTED}, found {error}"))?;
    let change = |(old, new): (String, Value)| match new {
        Value::String(new) => Ok((old, Some(new))),
        Value::Null => Ok((old, None)),
        other => Err(format!("{EXPECTED}, found {other} for {old:?}")),
    };
    map.into_iter().map(change).collect()
}

fn from_table(text: &str) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (line, fields) in records(text)? {
        let [old, new] = <[String; 2]>::try_from(fields).map_err(|fields| {
            format!("line {line}: expected two columns, the old and the new name, found {}", fields.len())
        })?;
        if changes.is_empty() && line == 1 && old.eq_ignore_ascii_case("old") && new.eq_ignore_ascii_case("new") {
            continue;
        }
        changes.push((old, Some(new).filter(|new| !new.is_empty())));
    }
    Ok(changes)
}

/// The records of a table with commas (RFC 4180), each with the number of its first line. Empty lines are passed over.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let (mut line, mut first_line) = (1, 1);
    let mut fields: Vec<String> = Vec::new();
    let mut field = String::new();
    let mut is_quoted = false;
    let mut letters = text.chars().peekable();
    loop {
        let letter = letters.next();
        match letter {
            Some('"') if is_quoted => {
                if letters.next_if_eq(&'"').is_some() {
                    field.push('"');
                } else {
                    is_quoted = false;
                    if letters.peek().is_some_and(|next| !matches!(next, ',' | '\n' | '\r')) {
                        return Err(format!(
                            "line {line}: expected a comma or the end of the line after a quoted name"
                        ));
                    }
                }
            }
            Some(other) if is_quoted => {
                line += usize::from(other == '\n');
                field.push(other);
            }
            None if is_quoted => {
                return Err(format!(
                    "line {first_line}: expected a quote at the end of a name, found the end of the file"
                ));
            }
            Some('"') if field.is_empty() => is_quoted = true,
            Some(',') => fields.push(std::mem::take(&mut field)),
            Some('\r') if letters.peek() == Some(&'\n') => {}
            Some('\n') | None => {
                if !fields.is_empty() || !field.is_empty() {
                    fields.push(std::mem::take(&mut field));
                    records.push((first_line, std::mem::take(&mut fields)));
                }
                if letter.is_none() {
                    return Ok(records);
                }
                line += 1;
                first_line = line;
            }
            Some(other) => field.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_quotes_headings_and_empty_names() {
        let read = |text: &str| from_table(text).unwrap();
        let change = |old: &str, new: &str| (old.to_owned(), Some(new).filter(|n| !n.is_empty()).map(str::to_owned));
        assert_eq!(
            read("old,new\r\ncat,feline\r\n\r\n\"a, \"\"b\"\"\n2\",x\nsofa,\n"),
            [change("cat", "feline"), change("a, \"b\"\n2", "x"), change("sofa", "")]
        );
        assert_eq!(read("a=b,ç"), [change("a=b", "ç")]);
        assert!(read("").is_empty());
        for (text, words) in [
            ("a,b\nc\n", ["line 2", "found 1"]),
            ("a,b,c", ["line 1", "found 3"]),
            ("a,b\n\"c,d\n", ["line 2", "end of the file"]),
            ("\"a\"x,b", ["line 1", "comma"]),
        ] {
            let message = from_table(text).unwrap_err();
            words.iter().for_each(|word| assert!(message.contains(word), "{word}: {message}"));
        }
    }

    #[test]
    fn json_has_names_or_null() {
        assert_eq!(
            from_json(r#"{"b": "a", "a": null}"#).unwrap(),
            [("b".to_owned(), Some("a".to_owned())), ("a".to_owned(), None)]
        );
        assert!(from_json(r#"{"b": 1}"#).unwrap_err().contains("found 1 for \"b\""));
        assert!(from_json("[]").is_err() && from_json("{").is_err());
    }
}
