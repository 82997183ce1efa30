//! `--labels`: a file of category names, and the categories of a weight file's class channels.

use std::path::{Path, PathBuf};

use foveal_coco::{CategoryInfo, LabelMap, coco_names};

use crate::{ClassChannels, DetectorError};

/// Channels of torchvision's COCO detectors: background, and ids up to 90 of which ten are unused.
pub const COCO_CHANNELS: usize = 91;
/// torchvision's names for channels without a category.
const UNUSED: &str = "N/A";
/// torchvision's name for channel 0.
const BACKGROUND: [&str; 2] = ["__background__", "background"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    id: Option<i64>,
    name: String,
}

/// A file with one category a line: its name, or `id<TAB>name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    path: PathBuf,
    lines: Vec<Line>,
}

/// The categories of a detector and their channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// In class order.
    pub categories: Vec<CategoryInfo>,
    /// Where they are among the class channels.
    pub channels: ClassChannels,
}

impl Labels {
    /// Reads the file. Empty lines at its end do not count.
    ///
    /// # Errors
    /// Names file, line and what was expected.
    pub fn read(path: &Path) -> Result<Self, DetectorError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| DetectorError::Io { path: path.to_owned(), source })?;
        let text = text.trim_start_matches('\u{feff}').trim_end();
        let lines: Result<Vec<Line>, DetectorError> =
            text.lines().enumerate().map(|(i, line)| parse(path, i + 1, line)).collect();
        Ok(Self { path: path.to_owned(), lines: lines? })
    }

    fn error(&self, expected: String, found: String) -> DetectorError {
        DetectorError::Labels { path: self.path.clone(), expected, found }
    }

    /// The categories of `count` channels, of which the first is the background.
    fn of(&self, count: usize) -> Result<Labelled, DetectorError> {
        let lines = &self.lines;
        let by_id: Option<Vec<usize>> = lines.iter().map(|l| usize::try_from(l.id?).ok()).collect();
        let channels: Vec<usize> = match by_id {
            // A line a channel, whatever their ids.
            _ if lines.len() + 1 == count => (1..count).collect(),
            // Fewer lines than channels: their ids are the channels.
            Some(ids) if !ids.is_empty() && lines.len() < count && ids.iter().all(|id| (1..count).contains(id)) => ids,
            _ => {
                return Err(self.error(
                    format!(
                        "{} lines (the weights have {count} class channels, of which the first is the background), or \
                         lines `id<TAB>name` with ids from 1 to {}",
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
        // Classes in the order of the ids, as a data set's.
        named.sort_by_key(|(_, category)| category.id);
        let of_class = named.iter().map(|(channel, _)| *channel as u32).collect();
        let categories: Vec<CategoryInfo> = named.into_iter().map(|(_, category)| category).collect();
        LabelMap::new(categories.clone())
            .map_err(|e| self.error("names and ids that occur once".into(), e.to_string()))?;
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

/// The categories of torchvision's class channels: from a file, else COCO's where their number is COCO's, else
/// `class_1`, …. Channel 0 is the background.
///
/// # Errors
/// When the file does not fit the number of channels.
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
