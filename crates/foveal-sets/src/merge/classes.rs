//! One list of classes from those of several files.

use std::collections::HashMap;

use foveal_base::names::folded_class;
use foveal_coco::{Category, Whole};

use crate::SetFile;
use crate::fresh::Ids;

/// The id in the output of each category of a file.
pub(super) type ClassIds = HashMap<i64, i64>;

/// Joins the classes of all files by name. Returns their list and, for each file, the new ids of its categories.
///
/// Names that differ only in their spelling are joined if `join_alike` is true, and reported either way.
pub(super) fn joined(
    inputs: &[SetFile],
    join_alike: bool,
    notes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> (Vec<Whole<Category>>, Vec<ClassIds>) {
    let mut list: Vec<Whole<Category>> = Vec::new();
    let mut ids = Ids::above(inputs.iter().flat_map(|set| set.dataset.categories.iter().map(|c| c.record.id)));
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut by_spelling: HashMap<String, usize> = HashMap::new();
    let mut of_file = Vec::with_capacity(inputs.len());
    for set in inputs {
        let file = set.path.display();
        let mut new_ids = ClassIds::new();
        let mut renumbered = 0;
        for category in &set.dataset.categories {
            let Category { id, name, .. } = &category.record;
            let alike = by_spelling.get(&folded_class(name)).copied();
            let known = by_name.get(name).copied().or_else(|| alike.filter(|_| join_alike));
            if let Some(at) = known {
                let kept = &list[at].record;
                if kept.name != *name {
                    notes.push(format!("{file}: the class {name:?} is joined with {:?}", kept.name));
                } else if kept.supercategory != category.record.supercategory
                    || list[at].others.to_map() != category.others.to_map()
                {
                    warnings.push(format!(
                        "{file}: the class {name:?} has another supercategory or other members, such as keypoints, than \
                         in an earlier file; those of the earlier file are kept"
                    ));
                }
                by_name.entry(name.clone()).or_insert(at);
                new_ids.insert(*id, list[at].record.id);
                continue;
            }
            if let Some(at) = alike {
                warnings.push(format!(
                    "{file}: the class {name:?} differs from {:?} only in its spelling; they stay two classes \
                     (--join-alike joins them)",
                    list[at].record.name
                ));
            }
            let mut category = category.clone();
            category.record.id = ids.take(*id);
            renumbered += usize::from(category.record.id != *id);
            new_ids.insert(*id, category.record.id);
            by_name.insert(name.clone(), list.len());
            by_spelling.entry(folded_class(name)).or_insert(list.len());
            list.push(category);
        }
        if renumbered > 0 {
            notes.push(format!("{file}: classes with new ids, because earlier files have theirs: {renumbered}"));
        }
        of_file.push(new_ids);
    }
    (list, of_file)
}
