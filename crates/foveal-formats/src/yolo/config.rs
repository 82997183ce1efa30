//! data.yaml: the names of the classes and the images of each split.

use std::path::{Path, PathBuf};

use foveal_base::text::read_data_text;

use super::yaml::{self, Node, Value};
use crate::FormatError;
use crate::images::plain;

/// Greatest number of classes of a map of names.
const MAX_CLASSES: u64 = 1_000_000;

/// The content of data.yaml.
#[derive(Debug)]
pub(crate) struct Config {
    pub path: PathBuf,
    root: Node,
    /// Names of the classes by their index.
    pub names: Vec<String>,
    /// Numbers that a label has for keypoints, if the data set has keypoints.
    pub keypoints: Option<usize>,
}

impl Config {
    /// Reads data.yaml.
    ///
    /// # Errors
    /// [`FormatError::Convert`] with the line if the file cannot be read, is not YAML, or has no usable names.
    pub(crate) fn read(path: &Path) -> Result<Self, FormatError> {
        let text =
            read_data_text(path).map_err(|error| FormatError::convert(path, format!("cannot be read: {error}")))?;
        let at = |line: u64, reason: String| FormatError::convert(path, format!("line {line}: {reason}"));
        let root = yaml::parse(&text).map_err(|(line, reason)| at(line, reason))?;
        if !matches!(root.value, Value::Map(_)) {
            let found = root.found();
            return Err(at(
                root.line,
                format!("expected a map with the keys `train`, `val` and `names`, found {found}"),
            ));
        }
        let names =
            root.get("names").ok_or_else(|| at(root.line, "expected the key `names`, found none".to_owned()))?;
        let names = class_names(names).map_err(|(line, reason)| at(line, reason))?;
        if let Some(count) = root.get("nc")
            && count.text().and_then(|text| text.parse::<usize>().ok()) != Some(names.len())
        {
            let reason = format!("`nc` is {}, expected {}, the number of `names`", count.found(), names.len());
            return Err(at(count.line, reason));
        }
        let keypoints = match root.get("kpt_shape") {
            None => None,
            Some(shape) => {
                let numbers: Option<Vec<usize>> = match &shape.value {
                    Value::List(items) => items.iter().map(|item| item.text()?.parse().ok()).collect(),
                    _ => None,
                };
                let product = numbers.filter(|numbers| numbers.len() == 2).and_then(|n| n[0].checked_mul(n[1]));
                let reason = || at(shape.line, format!("`kpt_shape` is {}, expected two numbers", shape.found()));
                Some(product.ok_or_else(reason)?)
            }
        };
        Ok(Self { path: path.to_owned(), root, names, keypoints })
    }

    /// The folders and lists of a split, as they are written; `None` if the split is not in the file.
    ///
    /// # Errors
    /// [`FormatError::Convert`] with the line if the value is neither a text nor a list of texts.
    pub(crate) fn split(&self, split: &str) -> Result<Option<Vec<String>>, FormatError> {
        let value = self.root.get(split).or_else(|| match split {
            "val" => self.root.get("valid").or_else(|| self.root.get("validation")),
            "valid" | "validation" => self.root.get("val"),
            _ => None,
        });
        let wrong = |node: &Node| {
            let found = node.found();
            let reason = format!(
                "line {}: `{split}` is {found}, expected a folder of images, a list file (.txt), or a list of them",
                node.line
            );
            FormatError::convert(&self.path, reason)
        };
        match value.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::Text(text))) => Ok(Some(vec![text.clone()])),
            Some((_, Value::List(items))) => {
                let texts = items.iter().map(|item| item.text().map(str::to_owned).ok_or_else(|| wrong(item)));
                texts.collect::<Result<Vec<String>, FormatError>>().map(Some)
            }
            Some((node, Value::Map(_))) => Err(wrong(node)),
        }
    }

    /// The other splits of a file that an export wrote, whose values are `images/NAME`.
    ///
    /// # Errors
    /// [`FormatError::Convert`] with the line of a key that an export does not write.
    pub(crate) fn exported_splits(&self) -> Result<Vec<String>, FormatError> {
        let Value::Map(entries) = &self.root.value else { return Ok(Vec::new()) };
        let mut splits = Vec::new();
        for (key, value) in entries {
            match (key.text(), value.text()) {
                (Some("names" | "nc"), _) => {}
                (Some(key), Some(value)) if value == format!("images/{key}") => splits.push(key.to_owned()),
                _ => {
                    let reason = format!(
                        "line {}: found the key {}, expected a file that to-yolo has written; write into another folder",
                        key.line,
                        key.found()
                    );
                    return Err(FormatError::convert(&self.path, reason));
                }
            }
        }
        Ok(splits)
    }

    /// The names of the splits that the file has.
    pub(crate) fn splits(&self) -> Vec<&'static str> {
        let known = ["train", "val", "valid", "validation", "test"];
        known.into_iter().filter(|key| self.root.get(key).is_some_and(|node| node.value != Value::Null)).collect()
    }

    /// The paths that an entry of a split can mean, in the order in which they are tried: relative to the key `path`,
    /// to the file, and without the `../` that Roboflow writes.
    pub(crate) fn candidates(&self, entry: &str) -> Vec<PathBuf> {
        let entry = entry.replace('\\', "/");
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut roots = Vec::new();
        if let Some(path) = self.root.get("path").and_then(Node::text) {
            roots.push(parent.join(path));
        }
        roots.push(parent.to_owned());
        let mut paths = Vec::new();
        for entry in [Some(entry.as_str()), entry.strip_prefix("../")].into_iter().flatten() {
            for root in &roots {
                let path = plain(&root.join(entry));
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths
    }
}

/// The names of the classes, from a list or a map of indices.
fn class_names(node: &Node) -> Result<Vec<String>, (u64, String)> {
    let name = |node: &Node| {
        let text = node.text().filter(|text| !text.is_empty()).map(str::to_owned);
        text.ok_or_else(|| (node.line, format!("a name in `names` is {}, expected the name of a class", node.found())))
    };
    match &node.value {
        Value::List(items) => items.iter().map(name).collect(),
        Value::Map(entries) => {
            let mut named: Vec<(u64, String)> = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let index = key.text().and_then(|text| text.parse().ok()).filter(|index| *index < MAX_CLASSES);
                let wrong = || {
                    let found = key.found();
                    (key.line, format!("a key of `names` is {found}, expected the index of a class, from 0"))
                };
                named.push((index.ok_or_else(wrong)?, name(value)?));
            }
            named.sort();
            for (expected, (index, name)) in (0..).zip(&named) {
                if *index != expected {
                    let reason = format!(
                        "`names` has the index {index} ({name:?}), expected {expected}: the indices are 0, 1, ..."
                    );
                    return Err((node.line, reason));
                }
            }
            Ok(named.into_iter().map(|(_, name)| name).collect())
        }
        Value::Null | Value::Text(_) => {
            Err((node.line, format!("`names` is {}, expected a list or a map of names", node.found())))
        }
    }
}
