//! The categories of annotations against those of a checkpoint.

use std::collections::{HashMap, HashSet};

use foveal_base::printable;
use foveal_coco::{Category, CategoryInfo, CocoDataset};
use foveal_eval::{CERTAIN, Check};

/// Similarity of two names, from 0 to 1, from which one is taken for the other misspelt.
const SIMILAR: f64 = 0.5;
/// Largest number of differences in a message.
const SHOWN: usize = 4;

/// Compares the categories of annotations with those of a checkpoint. Returns the check, and the annotations with the
/// categories of the checkpoint; those of categories that correspond to none are left out.
pub(super) fn compare(expected: &[CategoryInfo], truth: CocoDataset) -> (Check, CocoDataset) {
    let matches = correspond(expected, &truth.categories);
    let mut renamed = Vec::new();
    let (mut others, mut misspelt, mut moved) = (0, 0, 0);
    for category in &truth.categories {
        let name = printable(&category.name);
        match matches.get(&category.id) {
            None => {
                others += 1;
                renamed.push(format!("{} {name} is not in the checkpoint", category.id));
            }
            Some(known) if known.name != category.name => {
                misspelt += 1;
                renamed.push(format!(
                    "{} {name} is nearest to {} {} of the checkpoint",
                    category.id,
                    known.id,
                    printable(&known.name)
                ));
            }
            Some(known) if known.id != category.id => {
                moved += 1;
                renamed.push(format!("{name} has the id {}, and {} in the checkpoint", category.id, known.id));
            }
            Some(_) => {}
        }
    }
    let more = if renamed.len() > SHOWN { ", …" } else { "" };
    renamed.truncate(SHOWN);
    let measured = format!(
        "Of {} categories of the annotations, {misspelt} have a name that the checkpoint does not have, {moved} have another \
         id, and {others} correspond to none of its {}: {}{more}",
        truth.categories.len(),
        expected.len(),
        renamed.join(", ")
    );
    let advice = "Use the names and ids of the training annotations. The metrics here are those with the categories that \
                  correspond";
    let check = Check::found("categories_differ", CERTAIN, measured, advice);
    let annotations = truth.annotations.into_iter().filter_map(|mut annotation| {
        annotation.category_id = matches.get(&annotation.category_id)?.id;
        Some(annotation)
    });
    let categories =
        expected.iter().map(|c| Category { id: c.id, name: c.name.clone(), supercategory: None }).collect();
    let truth = CocoDataset { annotations: annotations.collect(), categories, images: truth.images };
    (check, truth)
}

/// The category of the checkpoint that corresponds to each category of the annotations, by its id: that of the same
/// name, else that of the most similar name that is left, else that of the same id.
fn correspond<'a>(expected: &'a [CategoryInfo], found: &[Category]) -> HashMap<i64, &'a CategoryInfo> {
    let mut matches: HashMap<i64, &CategoryInfo> = HashMap::new();
    for category in found {
        if let Some(known) = expected.iter().find(|known| known.name == category.name) {
            matches.insert(category.id, known);
        }
    }
    let mut taken: HashSet<i64> = matches.values().map(|known| known.id).collect();
    let mut similar: Vec<(f64, &Category, &CategoryInfo)> = Vec::new();
    for category in found.iter().filter(|category| !matches.contains_key(&category.id)) {
        let name = category.name.to_lowercase();
        for known in expected.iter().filter(|known| !taken.contains(&known.id)) {
            // Of names that are equally similar, that of the same id is meant.
            let same = if known.id == category.id { 0.01 } else { 0.0 };
            let alike = strsim::normalized_damerau_levenshtein(&name, &known.name.to_lowercase()) + same;
            similar.push((alike, category, known));
        }
    }
    similar.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (alike, category, known) in similar {
        if alike >= SIMILAR && !matches.contains_key(&category.id) && taken.insert(known.id) {
            matches.insert(category.id, known);
        }
    }
    for category in found {
        if !matches.contains_key(&category.id)
            && let Some(known) = expected.iter().find(|known| known.id == category.id)
            && taken.insert(known.id)
        {
            matches.insert(category.id, known);
        }
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(id: i64, name: &str) -> Category {
        Category { id, name: name.to_owned(), supercategory: None }
    }

    #[test]
    fn names_are_matched_before_ids() {
        let expected: Vec<CategoryInfo> =
            [(1, "cat"), (2, "dog"), (3, "owl")].map(|(id, name)| CategoryInfo { id, name: name.to_owned() }).to_vec();
        let of = |found: &[Category]| -> Vec<Option<i64>> {
            let matches = correspond(&expected, found);
            found.iter().map(|c| matches.get(&c.id).map(|known| known.id)).collect()
        };
        let misspelt = [category(1, "Cta"), category(2, "dog"), category(3, "ovl")];
        assert_eq!(of(&misspelt), [Some(1), Some(2), Some(3)]);
        let shifted = [category(0, "cat"), category(1, "dog"), category(2, "owl")];
        assert_eq!(of(&shifted), [Some(1), Some(2), Some(3)]);
        assert_eq!(of(&[category(2, "Vogel"), category(9, "Fisch")]), [Some(2), None]);
    }
}
