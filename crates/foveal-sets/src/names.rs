//! Names of classes in messages: which was meant, and which there are.

use std::path::Path;

use foveal_base::names::folded_class;
use foveal_base::{first_chars, printable};
use foveal_coco::{Category, Whole};

use crate::SetsError;

/// Number of names that a message lists.
const LISTED: usize = 20;
/// Number of characters of a name in a message.
const SHOWN: usize = 60;

/// The name that is most similar to `name`, if there is one.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let plain = folded_class(name);
    let distance = |other: &&str| strsim::damerau_levenshtein(&plain, &folded_class(other));
    known.min_by_key(distance).map(str::to_owned)
}

/// The error of a name that no class has.
pub(crate) fn unknown(path: &Path, name: &str, categories: &[Whole<Category>]) -> SetsError {
    let known = || categories.iter().map(|c| c.record.name.as_str());
    SetsError::UnknownClass {
        path: path.to_owned(),
        name: name.to_owned(),
        near: nearest(name, known()),
        known: list(known()),
    }
}

/// The first names of a list, for a message.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown: Vec<String> =
        names.iter().take(LISTED).map(|name| printable(&first_chars(name, SHOWN)).into()).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > LISTED => format!("{} and {} more", shown.join(", "), count - LISTED),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["person", "traffic light", "cat"];
        assert_eq!(nearest("Trafic-Ligth", known.into_iter()).as_deref(), Some("traffic light"));
        assert_eq!(nearest("cats", known.into_iter()).as_deref(), Some("cat"));
        assert_eq!(nearest("x", std::iter::empty()), None);
        assert_eq!(list(known.into_iter()), "person, traffic light, cat");
    }
}
