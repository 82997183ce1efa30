//! Text in XML.

/// Escapes a text for an element or for an attribute in double quotes.
///
/// # Errors
/// The first character that XML cannot contain, even as an escape.
pub(super) fn escaped(text: &str) -> Result<String, char> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // A reader of XML replaces these by spaces or line ends of its own if they are not escaped.
            '\n' => out += "&#10;",
            '\r' => out += "&#13;",
            '\t' => out += "&#9;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => return Err(c),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// The reason why a text cannot be in XML.
pub(super) fn reason(what: &str, text: &str, c: char) -> String {
    format!("{what} {text:?} contains the character {c:?}, which XML does not allow; expected another name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_elements_and_attributes() {
        for text in ["a & b <c> \"d\" 'e'", "tab\tline\nend\r", "猫 \u{1f469}\u{200d}\u{1f680} \u{85}", "]]>"] {
            let escaped = escaped(text).unwrap();
            let xml = format!("<a b=\"{escaped}\">{escaped}</a>");
            let document = roxmltree::Document::parse(&xml).unwrap();
            assert_eq!(document.root_element().text(), Some(text), "{xml}");
            assert_eq!(document.root_element().attribute("b"), Some(text), "{xml}");
        }
        assert_eq!(escaped("a\u{1}"), Err('\u{1}'));
    }
}
