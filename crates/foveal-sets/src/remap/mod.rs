//! Other classes for the objects of a data set: renamed, joined or dropped.

mod changes;
mod table_file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use foveal_coco::{Category, Whole, WholeDataset};

use crate::{ChangeReport, InputCounts, SetCounts, SetFile, SetsError, names};

pub use changes::Remap;

/// A data set with other classes.
#[derive(Clone, Debug)]
pub struct Remapped {
    /// The data set. Its images are those of the input.
    pub dataset: WholeDataset,
    /// The counts and what was changed.
    pub report: ChangeReport,
}

/// Changes the classes of a data set. All changes are applied at once to the classes of the input, so that `a=b` and
/// `b=a` exchange two names.
///
/// A renamed class keeps its id, its place in the list and its other members. Classes that become one have the record
/// of the one that has their new name already, or else of the first of them in the file. The objects and crowd regions
/// of a dropped class are left out, so that they are background; images stay.
///
/// # Errors
/// - [`SetsError::UnknownClass`] for a change of a class that the data set does not have
/// - [`SetsError::Change`] if a class that is not changed itself has the new name of another one
/// - [`SetsError::Nothing`] if no class is left
pub fn remap(set: SetFile, changes: &Remap) -> Result<Remapped, SetsError> {
    let before = InputCounts::of(&set);
    let SetFile { path, mut dataset, warnings } = set;
    let targets = targets(&path, &dataset, changes)?;
    let mut notes = Vec::new();

    // The categories of each new name, in the order of the file.
    let mut joined: HashMap<&str, Vec<&Whole<Category>>> = HashMap::new();
    for category in &dataset.categories {
        if let Some(Some(name)) = targets.get(&category.record.id) {
            joined.entry(name).or_default().push(category);
        }
    }
    let kept: HashMap<&str, i64> = joined
        .iter()
        .map(|(name, all)| {
            let named = all.iter().find(|category| category.record.name == **name);
            (*name, named.unwrap_or(&all[0]).record.id)
        })
        .collect();
    let new_id: HashMap<i64, Option<i64>> =
        targets.iter().map(|(id, new)| (*id, new.as_ref().map(|name| kept[name.as_str()]))).collect();
    let mut categories = Vec::with_capacity(dataset.categories.len());
    for category in &dataset.categories {
        let Category { id, name, .. } = &category.record;
        match (new_id.get(id), targets.get(id)) {
            (Some(Some(new)), Some(Some(target))) => {
                if name != target {
                    notes.push(format!("{name:?} is now {target:?}"));
                }
                if new == id {
                    let mut category = category.clone();
                    category.record.name.clone_from(target);
                    categories.push(category);
                }
            }
            (Some(None), _) => notes.push(format!("{name:?} was dropped, so that its objects are background")),
            _ => categories.push(category.clone()),
        }
    }
    if categories.is_empty() {
        let message = "expected at least one class to stay, found that all are dropped".to_owned();
        return Err(SetsError::Nothing { path, message });
    }
    dataset.categories = categories;
    dataset.annotations.retain_mut(|annotation| match new_id.get(&annotation.record.category_id) {
        Some(None) => false,
        Some(Some(id)) => {
            annotation.record.category_id = *id;
            true
        }
        None => true,
    });
    let report = ChangeReport { inputs: vec![before], output: SetCounts::of(&dataset), notes, warnings };
    Ok(Remapped { dataset, report })
}

/// The new name of each category that is changed, by its id; `None` if it is dropped.
fn targets(path: &Path, dataset: &WholeDataset, changes: &Remap) -> Result<BTreeMap<i64, Option<String>>, SetsError> {
    let categories = &dataset.categories;
    let mut targets = BTreeMap::new();
    for (old, new) in changes.iter() {
        let before = targets.len();
        let of_name = categories.iter().filter(|category| category.record.name == *old);
        targets.extend(of_name.map(|category| (category.record.id, new.clone())));
        if targets.len() == before {
            return Err(names::unknown(path, old, categories));
        }
    }
    for (old, new) in changes.iter() {
        let Some(new) = new else { continue };
        let unchanged = |c: &&Whole<Category>| c.record.name == *new && !targets.contains_key(&c.record.id);
        if categories.iter().any(|category| unchanged(&category)) {
            return Err(SetsError::Change {
                path: path.to_owned(),
                message: format!(
                    "expected a new name for {old:?}, found {new:?}, which another class has; to make one class of them, \
                     use --join {old},{new}={new}, or the same new name for both in the file of --map"
                ),
            });
        }
    }
    Ok(targets)
}
