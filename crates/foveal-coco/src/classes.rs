//! The classes of a data set: which of its categories they are if names or records are doubled.

use std::collections::{HashMap, HashSet};

use crate::{Category, CocoDataset, CocoError, LabelMap};

/// The supercategory of the category that Roboflow puts at the root of its exports. It stands for the project.
const ROOT: &str = "none";

/// The classes of a data set, and what was decided about its categories.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// The map between the category ids and the classes.
    pub labels: LabelMap,
    /// Categories without objects that are no class, because their name is that of a class, or because they are not
    /// among the classes that were given and of the supercategory `none`.
    pub dropped: Vec<DroppedCategory>,
    /// Categories of the supercategory `none` that have no object and are a class nevertheless, because no other
    /// category has their name. Exports of Roboflow begin with such a category, which stands for the project.
    pub unused_roots: Vec<Category>,
}

/// A category without objects that is no class.
#[derive(Clone, Debug, PartialEq)]
pub struct DroppedCategory {
    /// The category, which is no class.
    pub category: Category,
    /// Id of the category of the same name that is a class, if there is one.
    pub kept: Option<i64>,
}

impl Classes {
    /// Decides which categories of a data set are its classes. They are in ascending order of their ids.
    ///
    /// Of several categories of one name, the one with objects is the class. If none has objects, it is the one that is
    /// in `known`, the classes of a model; else one that is not of the supercategory `none`; else the first by id. A
    /// category that the file lists twice with the same name counts once.
    ///
    /// # Errors
    /// [`CocoError::NoCategories`] if there is no category, [`CocoError::DuplicateCategory`] if two categories of
    /// different names share an id, [`CocoError::DuplicateName`] if two categories with objects share a name.
    pub fn of(dataset: &CocoDataset, known: Option<&LabelMap>) -> Result<Self, CocoError> {
        let used: HashSet<i64> = dataset.annotations.iter().map(|a| a.category_id).collect();
        let mut listed: HashSet<(i64, &str)> = HashSet::with_capacity(dataset.categories.len());
        let mut categories: Vec<&Category> = Vec::with_capacity(dataset.categories.len());
        for category in &dataset.categories {
            if listed.insert((category.id, &category.name)) {
                categories.push(category);
            }
        }
        categories.sort_by_key(|c| c.id);
        let is_root = |c: &Category| c.supercategory.as_deref() == Some(ROOT);
        let is_known = |c: &Category| known.is_some_and(|labels| labels.class_of(c.id).is_some());
        let rank = |c: &Category| (!used.contains(&c.id), !is_known(c), is_root(c));
        let mut best: HashMap<&str, &Category> = HashMap::with_capacity(categories.len());
        for &category in &categories {
            let first = best.entry(&category.name).or_insert(category);
            if rank(category) < rank(first) {
                *first = category;
            }
        }
        let (mut kept, mut dropped, mut unused_roots) = (Vec::new(), Vec::new(), Vec::new());
        for category in categories {
            let of_name = best[&*category.name].id;
            let unused = !used.contains(&category.id);
            if unused && of_name != category.id {
                dropped.push(DroppedCategory { category: category.clone(), kept: Some(of_name) });
                continue;
            }
            if unused && is_root(category) {
                if known.is_some() && !is_known(category) {
                    dropped.push(DroppedCategory { category: category.clone(), kept: None });
                    continue;
                }
                unused_roots.push(category.clone());
            }
            kept.push(category.clone());
        }
        Ok(Self { labels: LabelMap::from_categories(&kept)?, dropped, unused_roots })
    }
}
