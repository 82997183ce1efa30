//! The configuration of further training sets and of the classes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest weight of a set. With a larger one an epoch would consist of almost nothing else.
const MAX_WEIGHT: f64 = 1000.0;

/// A further training set (an entry of `data.more_train`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoreSet {
    /// Path of the COCO annotation file, JSON or gzipped JSON.
    pub annotations: PathBuf,
    /// Path of the folder with the images; `file_name` in the annotation file is relative to it.
    pub images: PathBuf,
    /// How often each image of the set is used in an epoch on average, above 0 and at most 1000. An image of
    /// `data.train` is used once. `data.sampler` multiplies this by the repeat factor of the image. Default: 1.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl MoreSet {
    /// Checks that the weight is in its range.
    ///
    /// # Errors
    /// A [`SettingError`] with the key `weight`.
    pub fn validate(&self) -> Result<(), SettingError> {
        let inside = self.weight > 0.0 && self.weight <= MAX_WEIGHT;
        check::that(inside, "weight", &format!("a number above 0 and up to {MAX_WEIGHT}"), &self.weight)
    }
}

/// What becomes of the objects of classes that are dropped (`data.classes.dropped`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DroppedObjects {
    /// They are left out, so that they are background. This is the default.
    #[default]
    Background,
    /// They become crowd regions: anchors in them are ignored in training, and an evaluation does not count detections
    /// in them, whatever their class.
    Ignored,
}

/// Which classes of the annotation files are used, and under which names (`data.classes`). All names are exact, with
/// case and spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassesConfig {
    /// Names of the classes that are kept, as in the annotation files. Classes in `rename` and `join`, and those that
    /// have the new names, are kept too. Default: empty, which keeps all.
    pub keep: Vec<String>,
    /// Names of the classes that are dropped, as in the annotation files. Only one of `keep` and `drop` can be set.
    /// Default: empty.
    pub drop: Vec<String>,
    /// New names of classes: `{ lorry = "truck" }` makes trucks of lorries. If there is a class of the new name, both
    /// become one class. Default: empty.
    pub rename: BTreeMap<String, String>,
    /// Classes that become one, by its name: `{ vehicle = ["car", "bus"] }` makes vehicles of cars and buses. If there
    /// is a class of this name, it is a part of it too. Default: empty.
    pub join: BTreeMap<String, Vec<String>>,
    /// What becomes of the objects of classes that are not kept. Default: `background`.
    pub dropped: DroppedObjects,
}

impl ClassesConfig {
    /// Returns whether the classes are those of the annotation files.
    pub fn is_plain(&self) -> bool {
        self.keep.is_empty() && self.drop.is_empty() && self.rename.is_empty() && self.join.is_empty()
    }

    /// Returns the name of the class that the objects of a class of an annotation file belong to; `None` if the class
    /// is dropped.
    pub fn target<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let is = |other: &String| other == name;
        if self.drop.iter().any(is) {
            return None;
        }
        if let Some(new) = self.rename.get(name) {
            return Some(new);
        }
        if let Some((new, _)) = self.join.iter().find(|(_, members)| members.iter().any(is)) {
            return Some(new);
        }
        let is_target = self.rename.values().chain(self.join.keys()).any(is);
        (self.keep.is_empty() || is_target || self.keep.iter().any(is)).then_some(name)
    }

    /// The names of classes of annotation files with the keys (relative to `data.classes`) that contain them.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, &str)> {
        let keep = self.keep.iter().map(|name| ("keep".to_owned(), name.as_str()));
        let drop = self.drop.iter().map(|name| ("drop".to_owned(), name.as_str()));
        let rename = self.rename.keys().map(|name| ("rename".to_owned(), name.as_str()));
        let join = self
            .join
            .iter()
            .flat_map(|(new, members)| members.iter().map(move |name| (format!("join.{new}"), name.as_str())));
        keep.chain(drop).chain(rename).chain(join)
    }

    /// Checks that the settings do not contradict each other. No file is read.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key (relative to `data.classes`): both `keep` and `drop`; a name that
    /// two settings send to different places; an empty name; a class of `join` without members.
    pub fn validate(&self) -> Result<(), SettingError> {
        let only = "an empty list, because data.classes.keep is set and drops all others";
        check::that(self.keep.is_empty() || self.drop.is_empty(), "drop", only, &self.drop)?;
        let mut moved: BTreeSet<&str> = BTreeSet::new();
        for (key, name) in self.named() {
            check::that(!name.is_empty(), &key, "names of classes", &name)?;
            // A class may be listed in `keep` and be renamed too.
            if key != "keep" {
                let once = "each class once in drop, rename and join";
                check::that(moved.insert(name), &key, once, &name)?;
            }
        }
        for (name, new) in &self.rename {
            check::that(!new.is_empty(), &format!("rename.{name}"), "a name", new)?;
        }
        for (new, members) in &self.join {
            check::that(!new.is_empty(), "join", "names of classes", new)?;
            check::that(!members.is_empty(), &format!("join.{new}"), "at least one class", members)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of `{"keep": [...], ...}`.
    fn classes(json: serde_json::Value) -> ClassesConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_class_is_renamed_joined_kept_or_dropped() {
        let plain = ClassesConfig::default();
        assert!(plain.is_plain() && plain.target("car") == Some("car"));
        let of = classes(serde_json::json!({
            "keep": ["dog"], "rename": {"lorry": "truck", "a": "b", "b": "a"}, "join": {"vehicle": ["car", "bus"]},
        }));
        of.validate().unwrap();
        let cases = [
            ("dog", Some("dog")),
            ("lorry", Some("truck")),
            ("truck", Some("truck")),
            ("car", Some("vehicle")),
            ("bus", Some("vehicle")),
            ("vehicle", Some("vehicle")),
            // Renaming is one step, so that two names can be swapped.
            ("a", Some("b")),
            ("b", Some("a")),
            ("cat", None),
            ("Dog", None),
        ];
        for (name, target) in cases {
            assert_eq!(of.target(name), target, "{name}");
        }
        let of = classes(serde_json::json!({"drop": ["truck"], "rename": {"lorry": "truck"}}));
        assert_eq!([of.target("truck"), of.target("lorry"), of.target("x")], [None, Some("truck"), Some("x")]);
    }

    #[test]
    fn contradictions_name_the_key() {
        for (json, key) in [
            (serde_json::json!({"keep": ["a"], "drop": ["b"]}), "drop"),
            (serde_json::json!({"drop": ["a"], "rename": {"a": "b"}}), "rename"),
            (serde_json::json!({"rename": {"a": "b"}, "join": {"c": ["a"]}}), "join.c"),
            (serde_json::json!({"join": {"c": ["a"], "d": ["a"]}}), "join.d"),
            (serde_json::json!({"join": {"c": []}}), "join.c"),
            (serde_json::json!({"rename": {"a": ""}}), "rename.a"),
            (serde_json::json!({"keep": [""]}), "keep"),
        ] {
            let error = classes(json.clone()).validate().unwrap_err();
            assert_eq!(error.key, key, "{json}");
        }
        classes(serde_json::json!({"keep": ["a"], "rename": {"a": "b"}})).validate().unwrap();
    }

    #[test]
    fn weights_are_positive_and_finite() {
        let set = |weight| MoreSet { annotations: "a".into(), images: "b".into(), weight };
        assert!([0.001, 1.0, 1000.0].iter().all(|weight| set(*weight).validate().is_ok()));
        assert!([0.0, -1.0, f64::NAN, f64::INFINITY].iter().all(|weight| set(*weight).validate().is_err()));
        let read = |text| serde_json::from_value::<MoreSet>(text);
        assert_eq!(read(serde_json::json!({"annotations": "a", "images": "b"})).unwrap(), set(1.0));
        assert!(read(serde_json::json!({"annotations": "a"})).unwrap_err().to_string().contains("images"));
    }
}
