//! Category names for imported weights, from a file (`--labels`) or built in.

use std::path::{Path, PathBuf};

use foveal_base::text::read_data_text;
use foveal_coco::{CategoryInfo, LabelMap, coco_names};

use crate::{ClassChannels, DetectorError};

/// Number of class channels per anchor of torchvision's COCO detectors: the background and the category ids 1 to 90,
/// ten of which COCO does not use.
pub const COCO_CHANNELS: usize = 91;
/// torchvision's name for channels without a category.
const UNUSED: &str = "N/A";
/// Names for channel 0 in lists of torchvision and others.
const BACKGROUND: [&str; 2] = ["__background__", "background"];

/// One line of a file with category names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    id: Option<i64>,
    name: String,
}

/// Category names read from a text file with one category per line, as `name` or `id<TAB>name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    path: PathBuf,
    lines: Vec<Line>,
}

/// Categories of a detector and their channels in the class head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Categories in class order, that is, sorted by id.
    pub categories: Vec<CategoryInfo>,
    /// Assignment of the categories (as classes 0, 1, …) to the channels of the class head.
    pub channels: ClassChannels,
}

impl Labels {
    /// Reads a file with category names, in UTF-8 or UTF-16. Empty lines at the end of the file are ignored.
    ///
    /// # Errors
    /// [`DetectorError::Io`] if the file cannot be read; [`DetectorError::Labels`], with the number of the line, if a
    /// line has no name, an id is not an integer, or the first line names the background.
    pub fn read(path: &Path) -> Result<Self, DetectorError> {
        let text = read_data_text(path).map_err(|source| DetectorError::Io { path: path.to_owned(), source })?;
        let text = text.trim_end();
        let lines: Result<Vec<Line>, DetectorError> =
            text.lines().enumerate().map(|(i, line)| parse(path, i + 1, line)).collect();
        Ok(Self { path: path.to_owned(), lines: lines? })
    }

    fn error(&self, expected: String, found: String) -> DetectorError {
        DetectorError::Labels { path: self.path.clone(), expected, found }
    }

    /// Assigns the lines to `count` channels, of which channel 0 is the background.
    fn of(&self, count: usize) -> Result<Labelled, DetectorError> {
        let lines = &self.lines;
        let by_id: Option<Vec<usize>> = lines.iter().map(|l| usize::try_from(l.id?).ok()).collect();
        let channels: Vec<usize> = match by_id {
            // One line for each channel except the background: the ids do not matter.
            _ if lines.len() + 1 == count => (1..count).collect(),
            // Fewer lines than channels: the ids are channel indices.
            Some(ids) if !ids.is_empty() && lines.len() < count && ids.iter().all(|id| (1..count).contains(id)) => ids,
            _ => {
                return Err(self.error(
                    format!(
                        "{} lines (the weights have {count} class channels, of which the first is the background), or \
                         fewer lines of the form `id<TAB>name` with ids from 1 to {}",
                        count - 1,
                        count - 1
                    ),
                    format!("{} lines", lines.len()),
                ));
            }
        };
        let mut named: Vec<(usize, CategoryInfo)> = lines
            .iter()
            .zip(channels)
            .filter(|(line, _)| line.name != UNUSED)
            .map(|(line, channel)| {
                (channel, CategoryInfo { id: line.id.unwrap_or(channel as i64), name: line.name.clone() })
            })
            .collect();
        // Data sets order their classes by category id.
        named.sort_by_key(|(_, category)| category.id);
        let of_class = named.iter().map(|(channel, _)| *channel as u32).collect();
        let categories: Vec<CategoryInfo> = named.into_iter().map(|(_, category)| category).collect();
        LabelMap::new(categories.clone())
            .map_err(|e| self.error("every name and every id at most once".into(), e.to_string()))?;
        Ok(Labelled { categories, channels: ClassChannels { count, of_class } })
    }
}

fn parse(path: &Path, number: usize, line: &str) -> Result<Line, DetectorError> {
    let error = |expected: &str| DetectorError::Labels {
        path: path.to_owned(),
        expected: expected.to_owned(),
        found: format!("line {number}: `{}`", line.chars().take(60).collect::<String>()),
    };
    let (id, name) = match line.split_once('\t') {
        Some((id, name)) => {
            let id = id.trim().parse().map_err(|_| error("`id<TAB>name` with an integer id"))?;
            (Some(id), name)
        }
        None => (None, line),
    };
    let name = name.trim();
    if name.is_empty() {
        return Err(error("a category name on each line"));
    }
    if number == 1 && BACKGROUND.contains(&name.to_lowercase().as_str()) {
        return Err(error("no line for the background, which has no category"));
    }
    Ok(Line { id, name: name.to_owned() })
}

/// Returns the categories of the `count` class channels of a torchvision detector, whose channel 0 is the background.
/// The names come from `labels` if given; else they are COCO's if `count` is [`COCO_CHANNELS`]; else they are
/// `class_1`, `class_2` and so on.
///
/// # Errors
/// [`DetectorError::Labels`] if the number of lines or the ids in `labels` do not fit `count` channels, or if a name or
/// id occurs twice.
pub fn label_channels(count: usize, labels: Option<&Labels>) -> Result<Labelled, DetectorError> {
    match labels {
        Some(labels) => labels.of(count),
        None => {
            let categories: Vec<CategoryInfo> = if count == COCO_CHANNELS {
                coco_names()
            } else {
                (1..count as i64).map(|id| CategoryInfo { id, name: format!("class_{id}") }).collect()
            };
            let of_class = categories.iter().map(|c| c.id as u32).collect();
            Ok(Labelled { categories, channels: ClassChannels { count, of_class } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Result<Labels, DetectorError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        std::fs::write(&path, text).unwrap();
        Labels::read(&path)
    }

    fn outcome(text: &str, count: usize) -> String {
        match labels(text).and_then(|l| label_channels(count, Some(&l))) {
            Ok(l) => {
                let of = l.categories.iter().zip(&l.channels.of_class);
                of.map(|(c, channel)| format!("{}={}@{channel}", c.id, c.name)).collect::<Vec<_>>().join(" ")
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn lines_become_categories() {
        assert_eq!(outcome("cat\r\nčáp\r\n", 3), "1=cat@1 2=čáp@2");
        assert_eq!(outcome("70\tcat\n3\tdog", 3), "3=dog@2 70=cat@1");
        assert_eq!(outcome("1\tcat\n4\tdog\n", 6), "1=cat@1 4=dog@4");
        assert_eq!(outcome("cat\nN/A\ndog\nN/A", 5), "1=cat@1 3=dog@3");
    }

    #[test]
    fn utf16_and_marks_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        for units in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = "\u{feff}cat\r\nčáp\r\n".encode_utf16().flat_map(units).collect();
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Labels::read(&path).unwrap(), Labels { path: path.clone(), ..labels("cat\nčáp").unwrap() });
        }
        assert_eq!(outcome("\u{feff}70\tcat", 2), "70=cat@1");
    }

    #[test]
    fn other_files_are_errors() {
        for (text, words) in [
            ("cat\n\ndog", "line 2"),
            ("__background__\ncat", "background"),
            ("cat", "expected 2 lines"),
            ("cat\ndog\ncow", "found 3 lines"),
            ("x\tcat\n2\tdog", "integer id"),
            ("cat\ncat", "cat"),
            ("5\tcat", "from 1 to 2"),
            ("", "0 lines"),
        ] {
            let text = outcome(text, 3);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn cocos_names_are_built_in() {
        let coco = label_channels(91, None).unwrap();
        assert_eq!((coco.categories.len(), coco.channels.of_class[79]), (80, 90));
        let two = label_channels(3, None).unwrap();
        assert_eq!(two.categories[1], CategoryInfo { id: 2, name: "class_2".into() });
    }
}
