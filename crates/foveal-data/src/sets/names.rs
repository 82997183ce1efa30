//! The classes of several annotation files, found by the names of their categories.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use foveal_base::excerpt;
use foveal_base::names::folded_class;
use foveal_coco::{CategoryInfo, Classes, CocoError, LabelMap};

use super::ids::UniqueIds;
use super::{ClassMap, ClassesConfig};
use crate::DataError;

/// Distance of names from which none of them is suggested in place of another.
const FAR: f64 = 0.4;

/// The classes of the training sets, and which of them the categories of each file are.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The classes, in ascending order of their ids.
    pub labels: LabelMap,
    /// The classes of the categories of each file, in the order of the files.
    pub maps: Vec<ClassMap>,
}

/// A class that was found so far.
struct Found<'a> {
    name: &'a str,
    id: i64,
    /// The first file with the class, and the name of its category there.
    file: &'a Path,
    category: &'a str,
}

impl Names {
    /// Finds the classes of some files, which are given with their own classes. A class has the smallest id of its
    /// categories in the first file. Classes that the first file does not have get the next ids above the largest id of
    /// the first file, in the order of the files and of the ids in them.
    ///
    /// # Errors
    /// [`DataError::ClassName`] if the name of a class differs from that of an earlier file in case, Unicode form,
    /// spaces, `-` or `_` alone; [`DataError::NoClasses`] if no class is left.
    pub(crate) fn of(files: &[(PathBuf, Classes)], config: &ClassesConfig) -> Result<Self, DataError> {
        let mut found: Vec<Found<'_>> = Vec::new();
        let mut maps = Vec::with_capacity(files.len());
        let first = files.first().map_or(&[][..], |(_, classes)| classes.labels.categories());
        let mut ids = UniqueIds::new(first.iter().map(|category| category.id));
        for (number, (file, classes)) in files.iter().enumerate() {
            let mut map = ClassMap::new(config.dropped);
            for category in classes.labels.categories() {
                let Some(name) = config.target(&category.name) else {
                    map.drop(category);
                    continue;
                };
                let id = match found.iter().find(|found| found.name == name) {
                    Some(found) => found.id,
                    None => {
                        if let Some(other) =
                            found.iter().find(|other| number > 0 && folded_class(other.name) == folded_class(name))
                        {
                            return Err(other.error(file, category));
                        }
                        let id = if number == 0 { category.id } else { ids.free() };
                        found.push(Found { name, id, file, category: &category.name });
                        id
                    }
                };
                map.add(category, id);
            }
            maps.push(map);
        }
        found.sort_by_key(|found| found.id);
        let categories = found.iter().map(|found| CategoryInfo { id: found.id, name: found.name.to_owned() }).collect();
        let labels = LabelMap::new(categories).map_err(|error| match (error, files.first()) {
            (CocoError::NoCategories, _) | (_, None) => DataError::NoClasses { files: listed(files) },
            (source, Some((path, _))) => DataError::Categories { path: path.clone(), source },
        })?;
        Ok(Self { labels, maps })
    }

    /// Finds the classes of the categories of one file among those of a model. `trained` names the files of the
    /// training sets for messages.
    ///
    /// # Errors
    /// [`DataError::ClassName`] if a category is none of the classes. A category without objects that is the root of an
    /// export of Roboflow is left out instead.
    pub(crate) fn among(
        labels: &LabelMap,
        file: &Path,
        classes: &Classes,
        config: &ClassesConfig,
        trained: &str,
    ) -> Result<ClassMap, DataError> {
        let by_name: HashMap<&str, i64> = labels.categories().iter().map(|c| (c.name.as_str(), c.id)).collect();
        let unused: HashSet<i64> = classes.unused_roots.iter().map(|category| category.id).collect();
        let mut map = ClassMap::new(config.dropped);
        for category in classes.labels.categories() {
            let target = config.target(&category.name);
            match (target, target.and_then(|name| by_name.get(name))) {
                (Some(_), Some(id)) => map.add(category, *id),
                (Some(name), None) if !unused.contains(&category.id) => {
                    let near = nearest(name, by_name.keys().copied());
                    let near = near.map_or_else(String::new, |near| format!("; the most similar class is {near:?}"));
                    let becomes =
                        if name == category.name { String::new() } else { format!(", which becomes {name:?}") };
                    return Err(DataError::ClassName {
                        path: file.to_owned(),
                        id: category.id,
                        name: category.name.clone(),
                        reason: format!(
                            "expected one of the {} classes of {trained}, found another{becomes}{near}; rename or drop it \
                             with data.classes",
                            labels.len()
                        ),
                    });
                }
                _ => map.drop(category),
            }
        }
        Ok(map)
    }
}

impl Found<'_> {
    /// The error of a category whose name is almost that of this class.
    fn error(&self, file: &Path, category: &CategoryInfo) -> DataError {
        let Self { name, file: first, category: known, .. } = self;
        let class = if name == known { String::new() } else { format!(" (class {name:?})") };
        DataError::ClassName {
            path: file.to_owned(),
            id: category.id,
            name: category.name.clone(),
            reason: format!(
                "{} has {known:?}{class}, which differs in case, Unicode form, spaces, - or _ alone; to make one class of \
                 both, set data.classes.rename = {{ {:?} = {name:?} }}",
                first.display(),
                category.name
            ),
        }
    }
}

/// Checks that every class that `data.classes` names is one of the training sets.
///
/// # Errors
/// [`DataError::UnknownClass`] with the key, the name and the most similar class.
pub(crate) fn check_known(files: &[(PathBuf, Classes)], config: &ClassesConfig) -> Result<(), DataError> {
    let categories = || files.iter().flat_map(|(_, classes)| classes.labels.categories()).map(|c| c.name.as_str());
    let known: HashSet<&str> = categories().collect();
    for (key, name) in config.named() {
        if !known.contains(name) {
            let near = nearest(name, categories());
            return Err(DataError::UnknownClass {
                key: format!("data.classes.{key}"),
                name: name.to_owned(),
                files: listed(files),
                near: near.map_or_else(String::new, |near| format!("; the most similar one is {near:?}")),
            });
        }
    }
    Ok(())
}

/// The paths of files in a message.
fn listed(files: &[(PathBuf, Classes)]) -> String {
    excerpt(files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", "))
}

/// The name that is most similar to `name`, if one is similar.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let rated = names.map(|other| (strsim::normalized_damerau_levenshtein(&lower, &other.to_lowercase()), other));
    // Of names that are equally similar, the first in alphabetical order.
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))?;
    (best.0 >= FAR).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use foveal_coco::CocoDataset;
    use serde_json::{Value, json};

    use super::*;

    /// A file with these categories, each of which has an object.
    fn file(name: &str, categories: &[(i64, &str)]) -> (PathBuf, Classes) {
        let list: Vec<Value> = categories.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
        let objects: Vec<Value> = categories
            .iter()
            .map(|(id, _)| json!({"id": id, "image_id": 1, "category_id": id, "bbox": [0, 0, 2, 2]}))
            .collect();
        let text = json!({"images": [], "annotations": objects, "categories": list}).to_string();
        let dataset = CocoDataset::from_bytes(text.as_bytes(), Path::new(name)).unwrap();
        (PathBuf::from(name), Classes::of(&dataset, None).unwrap())
    }

    fn config(json: Value) -> ClassesConfig {
        let config: ClassesConfig = serde_json::from_value(json).unwrap();
        config.validate().unwrap();
        config
    }

    fn ids(labels: &LabelMap) -> Vec<(i64, &str)> {
        labels.categories().iter().map(|c| (c.id, c.name.as_str())).collect()
    }

    #[test]
    fn classes_of_several_files_have_the_ids_of_the_first_and_new_ones() {
        let files = [
            file("a", &[(7, "dog"), (3, "cat")]),
            file("b", &[(1, "cow"), (2, "dog"), (3, "bird")]),
            file("c", &[(7, "cat"), (8, "ant"), (9, "bird")]),
        ];
        let Names { labels, maps } = Names::of(&files, &ClassesConfig::default()).unwrap();
        assert_eq!(ids(&labels), [(3, "cat"), (7, "dog"), (8, "cow"), (9, "bird"), (10, "ant")]);
        assert_eq!([7, 3, 1].map(|id| maps[0].class(id)), [Some(Some(7)), Some(Some(3)), None]);
        assert_eq!([1, 2, 3].map(|id| maps[1].class(id)), [Some(Some(8)), Some(Some(7)), Some(Some(9))]);
        assert_eq!([7, 8, 9].map(|id| maps[2].class(id)), [Some(Some(3)), Some(Some(10)), Some(Some(9))]);
    }

    #[test]
    fn classes_are_renamed_joined_and_dropped_before_they_are_found() {
        let files = [
            file("a", &[(1, "car"), (2, "bus"), (5, "tree"), (9, "lorry")]),
            file("b", &[(1, "truck"), (2, "tree"), (3, "vehicle")]),
        ];
        let config = config(json!({
            "drop": ["tree"], "rename": {"lorry": "truck"}, "join": {"vehicle": ["bus", "car"]},
        }));
        check_known(&files, &config).unwrap();
        let Names { labels, maps } = Names::of(&files, &config).unwrap();
        assert_eq!(ids(&labels), [(1, "vehicle"), (9, "truck")]);
        assert_eq!([1, 2, 5, 9].map(|id| maps[0].class(id).unwrap()), [Some(1), Some(1), None, Some(9)]);
        assert_eq!([1, 2, 3].map(|id| maps[1].class(id).unwrap()), [Some(9), None, Some(1)]);
        let all_dropped = self::config(json!({"drop": ["a"]}));
        let error = Names::of(&[file("x", &[(1, "a")])], &all_dropped).unwrap_err();
        assert!(matches!(error, DataError::NoClasses { .. }), "{error}");
    }

    #[test]
    fn names_that_almost_agree_and_unknown_names_are_errors_that_name_the_files() {
        let files = [file("first.json", &[(1, "Traffic Light")]), file("second.json", &[(4, "traffic_light")])];
        let text = Names::of(&files, &ClassesConfig::default()).unwrap_err().to_string();
        for part in ["first.json", "second.json", "category 4", "Traffic Light", "data.classes.rename"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let renamed = config(json!({"rename": {"traffic_light": "Traffic Light"}}));
        assert_eq!(Names::of(&files, &renamed).unwrap().labels.len(), 1);
        let unknown = config(json!({"drop": ["Trafic Light"]}));
        let text = check_known(&files, &unknown).unwrap_err().to_string();
        for part in ["data.classes.drop", "Trafic Light", "\"Traffic Light\"", "first.json, second.json"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let far = check_known(&files, &config(json!({"keep": ["zebra"]}))).unwrap_err().to_string();
        assert!(!far.contains("similar"), "{far}");
    }

    #[test]
    fn categories_of_a_validation_set_are_found_by_name() {
        let labels = Names::of(&[file("t", &[(1, "car"), (4, "dog")])], &ClassesConfig::default()).unwrap().labels;
        let (path, classes) = file("val.json", &[(1, "dog"), (2, "lorry"), (8, "tree")]);
        let config = config(json!({"drop": ["tree"], "rename": {"lorry": "car"}}));
        let map = Names::among(&labels, &path, &classes, &config, "t").unwrap();
        assert_eq!([1, 2, 8].map(|id| map.class(id).unwrap()), [Some(4), Some(1), None]);
        let error = Names::among(&labels, &path, &classes, &ClassesConfig::default(), "t.json").unwrap_err();
        let text = error.to_string();
        assert!(["val.json", "category 2", "lorry", "t.json"].iter().all(|part| text.contains(part)), "{text}");
    }
}
