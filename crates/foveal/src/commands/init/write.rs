//! The text of a configuration file: settings with their reasons as comments, section by section.

use super::plan::Setting;

/// The order of the sections. Others follow in the order of the settings.
const SECTIONS: [&str; 11] = [
    "",
    "data",
    "data.train",
    "data.val",
    "data.augment",
    "model",
    "model.head",
    "model.anchors",
    "matcher",
    "loss",
    "train",
];
/// Width of comments in characters.
const WIDTH: usize = 100;

/// The text of a configuration file. `head` are paragraphs for the comment at its beginning.
pub(super) fn text(head: &[String], settings: &[Setting]) -> String {
    let mut sections: Vec<&str> = SECTIONS.to_vec();
    for setting in settings {
        let (section, _) = split(&setting.key);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    let mut text = head.iter().map(|paragraph| comment(paragraph)).collect::<Vec<_>>().join("#\n");
    for section in sections {
        let of_section: Vec<&Setting> = settings.iter().filter(|setting| split(&setting.key).0 == section).collect();
        if of_section.is_empty() {
            continue;
        }
        text += "\n";
        if !section.is_empty() {
            text += &format!("[{section}]\n");
        }
        for Setting { key, value, reason } in of_section {
            text += &comment(reason);
            text += &format!("{} = {value}\n", split(key).1);
        }
    }
    text
}

/// The section of a key and its last part.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// A paragraph as comment lines. Characters that would end a line or act on a terminal are escaped.
fn comment(paragraph: &str) -> String {
    let paragraph = foveal_base::printable(paragraph);
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
            lines += &line;
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_grouped_by_section_and_reasons_are_comments() {
        let setting = |key: &str, value: toml::Value, reason: &str| Setting::new(key, value, reason);
        let settings = [
            setting("train.epochs", 3.into(), "Three epochs."),
            setting("data.min_size", 256.into(), &"word ".repeat(30)),
            setting("eval.nms", 0.5.into(), "A class named \"a\nb\"."),
            setting("train.optimizer", "adamw".into(), "Short."),
        ];
        let found = text(&["First paragraph.".to_owned(), "Second.".to_owned()], &settings);
        let long = format!("#{}\n#{}\n", " word".repeat(19), " word".repeat(11));
        let expected = format!(
            "# First paragraph.\n#\n# Second.\n\n[data]\n{long}min_size = 256\n\n[train]\n# Three epochs.\nepochs = 3\n\
             # Short.\noptimizer = \"adamw\"\n\n[eval]\n# A class named \"a\\nb\".\nnms = 0.5\n"
        );
        assert_eq!(found, expected);
        assert_eq!(toml::from_str::<toml::Table>(&found).unwrap()["train"]["epochs"].as_integer(), Some(3));
    }
}
