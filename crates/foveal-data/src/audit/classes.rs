//! Classes: their names, and whether they have objects.

use std::collections::HashMap;

use foveal_base::names::folded_class;
use foveal_coco::CategoryInfo;

use super::cases::Cases;
use crate::{Opened, Problem};

/// Finds names that are nearly equal, empty, or have spaces around them.
pub(super) fn names(set: usize, opened: &Opened, cases: &mut Cases) {
    let mut first: HashMap<String, &CategoryInfo> = HashMap::new();
    for category in opened.dataset.label_map().categories() {
        let CategoryInfo { id, name } = category;
        if name.trim() != name || name.is_empty() {
            cases.add(set, Problem::UnclearClass, || (format!("category {id} {name:?}"), Vec::new()));
        }
        let key = folded_class(name);
        match first.get(&key) {
            Some(other) if !key.is_empty() => cases.add(set, Problem::SimilarClass, || {
                (format!("category {id} {name:?} and category {} {:?}", other.id, other.name), Vec::new())
            }),
            _ => {
                first.insert(key, category);
            }
        }
    }
}

/// Finds classes without an object.
pub(super) fn unused(set: usize, opened: &Opened, cases: &mut Cases) {
    let data = &opened.dataset;
    for (CategoryInfo { id, name }, objects) in data.label_map().categories().iter().zip(data.objects_by_class()) {
        if objects == 0 {
            cases.add(set, Problem::UnusedClass, || (format!("category {id} {name:?}"), Vec::new()));
        }
    }
}

/// Finds classes that only one of the training and the validation set has. The sets may have other categories, so that
/// classes are compared by name.
pub(super) fn across([train, val]: [&Opened; 2], cases: &mut Cases) {
    let count = |opened: &Opened| -> HashMap<String, usize> {
        let categories = opened.dataset.label_map().categories().iter().map(|category| category.name.clone());
        categories.zip(opened.dataset.objects_by_class()).collect()
    };
    let [in_train, in_val] = [count(train), count(val)];
    let of = |counts: &HashMap<String, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
    // A validation set of background images has no objects at all, on purpose.
    if in_val.values().all(|objects| *objects == 0) {
        return;
    }
    for CategoryInfo { id, name } in train.dataset.label_map().categories() {
        let objects = of(&in_train, name);
        if objects > 0 && of(&in_val, name) == 0 {
            cases.add(1, Problem::ClassWithoutVal, || {
                (format!("category {id} {name:?} has {objects} training objects"), Vec::new())
            });
        }
    }
    for CategoryInfo { id, name } in val.dataset.label_map().categories() {
        let objects = of(&in_val, name);
        if objects > 0 && of(&in_train, name) == 0 {
            cases.add(1, Problem::ClassWithoutTrain, || {
                (format!("category {id} {name:?} has {objects} validation objects"), Vec::new())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::folded_class;

    #[test]
    fn names_that_look_the_same_have_one_key() {
        for names in [["Traffic Light", "traffic_light"], ["t-shirt", "T shirt"], ["Caf\u{e9}", "cafe\u{301}"]] {
            assert_eq!(folded_class(names[0]), folded_class(names[1]), "{names:?}");
        }
        for names in [["cat", "cats"], ["car", "cat"], ["青", "赤"]] {
            assert_ne!(folded_class(names[0]), folded_class(names[1]), "{names:?}");
        }
    }
}
