//! Text from files and file names, made safe to show.

use std::borrow::Cow;

/// Replaces the characters of a text that would act on a terminal or hide in it by visible escapes, such as `\n` and
/// `\u{1b}`. Letters of all scripts, combining marks, emoji and backslashes remain. The result is one line.
///
/// File names, category names and messages that contain them pass through this function wherever they are shown: in
/// lines on stderr, in tables, in reports and in drawings. Files in formats of their own, such as JSON, contain the
/// exact text.
///
/// ```
/// assert_eq!(foveal_base::printable("青 1\u{1b}[31m\n"), r"青 1\u{1b}[31m\n");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Number of characters that [`excerpt`] keeps.
const EXCERPT: usize = 300;

/// Returns the first 300 characters of a message, with `…` in place of the rest.
///
/// The messages of parsers quote the file that they read, whose names and values can have any length.
///
/// ```
/// assert_eq!(foveal_base::excerpt("unknown field `epoch`"), "unknown field `epoch`");
/// assert_eq!(foveal_base::excerpt("x".repeat(999)).chars().count(), 301);
/// ```
pub fn excerpt(message: impl ToString) -> String {
    first_chars(message, EXCERPT)
}

/// Returns the first `count` characters of a text, with `…` in place of the rest.
///
/// ```
/// assert_eq!(foveal_base::first_chars("epoch", 5), "epoch");
/// assert_eq!(foveal_base::first_chars("epoch", 2), "ep…");
/// ```
pub fn first_chars(text: impl ToString, count: usize) -> String {
    let mut text = text.to_string();
    if let Some((end, _)) = text.char_indices().nth(count) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether [`printable`] replaces a character:
///
/// - control characters, line breaks and tabs included, which move the cursor or begin escape sequences;
/// - line and paragraph separators;
/// - characters that change the direction of the text around them, by which a name can pose as another one;
/// - characters without any width and effect, by which two names can look the same;
/// - noncharacters that XML does not allow.
///
/// The joiners U+200C and U+200D are kept, because Persian, the scripts of India and emoji need them.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' // line and paragraph separator
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' // direction
            | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' // invisible
            | '\u{fffe}' | '\u{ffff}' // noncharacters
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_all_scripts_are_kept() {
        for text in
            ["", "červená", "青い猫", "سمك", "می\u{200c}خواهم", "क्ष", "e\u{301}", "👩‍🚀", r"C:\pics\a b.png", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_shown_as_an_escape() {
        for (text, shown) in [
            ("a\u{1b}]0;title\u{7}", r"a\u{1b}]0;title\u{7}"),
            ("two\r\nlines\t", r"two\r\nlines\t"),
            ("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}"),
            ("photo\u{202e}gnp.exe", r"photo\u{202e}gnp.exe"),
            ("\u{2066}x\u{2069}\u{200f}", r"\u{2066}x\u{2069}\u{200f}"),
            ("a\u{2028}b\u{feff}\u{200b}", r"a\u{2028}b\u{feff}\u{200b}"),
            ("\u{0}\u{ffff}", r"\u{0}\u{ffff}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown, "unchanged when shown again");
        }
    }
}
