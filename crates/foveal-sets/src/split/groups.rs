//! Groups of images that stay in one part.

use std::collections::HashMap;
use std::path::Path;

use foveal_base::first_chars;
use foveal_coco::{Image, Whole, WholeDataset};
use regex::Regex;
use serde_json::Value;

use crate::SetsError;

/// Number of characters of a file name or of a list of keys in a message.
const SHOWN: usize = 200;

/// Which images stay together.
#[derive(Clone, Debug)]
pub enum Grouping {
    /// Images with the same file name.
    Names,
    /// Images whose file names agree in the text that the capture groups of a regular expression match, or in the whole
    /// match if it has no capture group.
    Pattern(Regex),
    /// Images whose records have the same value of a key, such as `video_id`.
    Key(String),
}

impl Grouping {
    /// The grouping by a regular expression, such as `^(.*)_[0-9]+`.
    ///
    /// # Errors
    /// [`SetsError::Option`] if the text is no regular expression.
    pub fn pattern(text: &str) -> Result<Self, SetsError> {
        Regex::new(text).map(Self::Pattern).map_err(|error| {
            // The first lines of the message show the expression with a mark under the place.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
            SetsError::Option {
                option: "--group",
                expected: "a regular expression for file names, such as '^(.*)_[0-9]+'".to_owned(),
                found: format!("{text:?}: {reason}"),
            }
        })
    }
}

/// The groups of a data set.
#[derive(Debug)]
pub(super) struct Groups {
    /// The indices of the images of each group, in ascending order. The groups are in the order of their first images.
    pub members: Vec<Vec<usize>>,
    /// Images that the rule gives no group, which are groups of their own.
    pub warnings: Vec<String>,
}

/// The groups of the images of a data set. `path` is only used in messages.
///
/// # Errors
/// [`SetsError::NoGroups`] if the rule gives no image a group.
pub(super) fn groups(dataset: &WholeDataset, grouping: &Grouping, path: &Path) -> Result<Groups, SetsError> {
    let images = &dataset.images;
    let keys: Vec<Option<String>> = images.iter().map(|image| key(image, grouping)).collect();
    let alone = keys.iter().filter(|key| key.is_none()).count();
    let mut warnings = Vec::new();
    if let Some((option, rule)) = described(grouping) {
        if alone == images.len() && !images.is_empty() {
            return Err(SetsError::NoGroups {
                path: path.to_owned(),
                option,
                rule,
                images: images.len(),
                found: first_chars(instead(&images[0], grouping), SHOWN),
            });
        }
        let example = keys.iter().position(Option::is_none);
        if let Some(image) = example.map(|index| &images[index]) {
            warnings.push(format!(
                "{option} {rule:?} gives {alone} of {} images no group, which are each a group of their own; the \
                 first is image {} ({:?})",
                images.len(),
                image.record.id,
                image.record.file_name
            ));
        }
    }
    Ok(Groups { members: joined(images, &keys), warnings })
}

/// The group of an image by the rule; `None` if the rule does not apply.
fn key(image: &Whole<Image>, grouping: &Grouping) -> Option<String> {
    match grouping {
        Grouping::Names => None,
        Grouping::Pattern(pattern) => {
            let found = pattern.captures(&image.record.file_name)?;
            if found.len() == 1 {
                return Some(found[0].to_owned());
            }
            let parts: Vec<&str> = found.iter().skip(1).map(|part| part.map_or("", |part| part.as_str())).collect();
            Some(parts.join("\0"))
        }
        Grouping::Key(key) => match key.as_str() {
            "width" => Some(image.record.width.to_string()),
            "height" => Some(image.record.height.to_string()),
            key => image.others.get(key).filter(|value| *value != Value::Null).map(|value| value.to_string()),
        },
    }
}

/// The option of the grouping and its value.
fn described(grouping: &Grouping) -> Option<(&'static str, String)> {
    match grouping {
        Grouping::Names => None,
        Grouping::Pattern(pattern) => Some(("--group", pattern.as_str().to_owned())),
        Grouping::Key(key) => Some(("--group-by", key.clone())),
    }
}

/// What an image has where no group was found.
fn instead(image: &Whole<Image>, grouping: &Grouping) -> String {
    let Image { id, file_name, .. } = &image.record;
    match grouping {
        Grouping::Key(_) => {
            let others = image.others.to_map();
            let keys: Vec<&str> = ["width", "height"].into_iter().chain(others.keys().map(String::as_str)).collect();
            format!("image {id} has the keys {}", keys.join(", "))
        }
        _ => format!("image {id} has the file name {file_name:?}"),
    }
}

/// Joins images with the same key and images with the same file name.
fn joined(images: &[Whole<Image>], keys: &[Option<String>]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..images.len()).collect();
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (index, (image, key)) in images.iter().zip(keys).enumerate() {
        let name = Some(image.record.file_name.as_str()).filter(|name| !name.is_empty());
        for (known, key) in [(&mut by_key, key.as_deref()), (&mut by_name, name)] {
            if let Some(first) = key.map(|key| *known.entry(key).or_insert(index)) {
                let (a, b) = (root(&mut parent, first), root(&mut parent, index));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut place = vec![usize::MAX; images.len()];
    let mut members: Vec<Vec<usize>> = Vec::new();
    for index in 0..images.len() {
        let root = root(&mut parent, index);
        if place[root] == usize::MAX {
            place[root] = members.len();
            members.push(Vec::new());
        }
        members[place[root]].push(index);
    }
    members
}

/// The first image of the group of an image, with shorter paths for the next time.
fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use foveal_coco::Members;

    fn dataset(images: &[(&str, Value)]) -> WholeDataset {
        let image = |(id, (name, others)): (usize, &(&str, Value))| Whole {
            record: Image { id: id as i64, file_name: (*name).to_owned(), width: 4, height: 3 },
            others: Members::new(others.as_object().unwrap()),
        };
        WholeDataset { images: images.iter().enumerate().map(image).collect(), ..WholeDataset::default() }
    }

    fn members(dataset: &WholeDataset, grouping: &Grouping) -> Vec<Vec<usize>> {
        groups(dataset, grouping, Path::new("a.json")).unwrap().members
    }

    #[test]
    fn groups_come_from_names_patterns_and_keys() {
        let set = dataset(&[
            ("a_001.jpg", json!({"video_id": 1})),
            ("b_001.jpg", json!({"video_id": "1"})),
            ("a_002.jpg", json!({"video_id": 1})),
            ("b_001.jpg", json!({"video_id": null})),
            ("c.jpg", json!({})),
        ]);
        assert_eq!(members(&set, &Grouping::Names), [vec![0], vec![1, 3], vec![2], vec![4]]);
        let pattern = |text| Grouping::Pattern(Regex::new(text).unwrap());
        assert_eq!(members(&set, &pattern("^(.*)_")), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(members(&set, &pattern("^.")), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(members(&set, &pattern("^(a|b)_|^(c)")), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(members(&set, &Grouping::Key("video_id".to_owned())), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(members(&set, &Grouping::Key("width".to_owned())), [vec![0, 1, 2, 3, 4]]);
        let found = groups(&set, &pattern("^(a)_"), Path::new("a.json")).unwrap();
        assert!(found.warnings[0].contains("3 of 5 images") && found.warnings[0].contains("b_001"), "{found:?}");
    }

    #[test]
    fn a_rule_that_applies_to_no_image_is_an_error() {
        let set = dataset(&[("a.jpg", json!({"license": 1}))]);
        let text = |grouping| groups(&set, &grouping, Path::new("x.json")).unwrap_err().to_string();
        let pattern = text(Grouping::Pattern(Regex::new("z(.)").unwrap()));
        assert!(pattern.contains("x.json") && pattern.contains("z(.)") && pattern.contains("a.jpg"), "{pattern}");
        let key = text(Grouping::Key("video".to_owned()));
        assert!(key.contains("--group-by") && key.contains("width, height, license"), "{key}");
    }
}
