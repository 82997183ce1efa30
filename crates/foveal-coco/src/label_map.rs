//! The map between the category ids of a COCO file and the contiguous classes of a model.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Category, CocoError};

/// The category that a class of a model stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryInfo {
    /// The id of the category in COCO files; any integer.
    pub id: i64,
    /// The name of the category, as shown to users.
    pub name: String,
}

/// A one-to-one map between category ids (any integers, gaps allowed) and the classes `0..len` of a model. It has at
/// least one category, and ids and names are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    categories: Vec<CategoryInfo>,
    classes: HashMap<i64, u32>,
}

impl LabelMap {
    /// Numbers the categories of a data set in ascending order of their ids; their order in the file does not matter.
    ///
    /// # Errors
    /// [`CocoError::NoCategories`] if there is no category, [`CocoError::DuplicateCategory`] if two categories share an
    /// id, [`CocoError::DuplicateName`] if two share a name.
    pub fn from_categories(categories: &[Category]) -> Result<Self, CocoError> {
        let mut infos: Vec<CategoryInfo> =
            categories.iter().map(|c| CategoryInfo { id: c.id, name: c.name.clone() }).collect();
        infos.sort_by_key(|c| c.id);
        Self::new(infos)
    }

    /// Numbers the categories in the given order, which is the order of the class channels of a model.
    ///
    /// # Errors
    /// [`CocoError::NoCategories`] if there is no category, [`CocoError::DuplicateCategory`] if two categories share an
    /// id, [`CocoError::DuplicateName`] if two share a name.
    pub fn new(categories: Vec<CategoryInfo>) -> Result<Self, CocoError> {
        if categories.is_empty() {
            return Err(CocoError::NoCategories);
        }
        let mut classes: HashMap<i64, u32> = HashMap::with_capacity(categories.len());
        let mut names: HashMap<&str, i64> = HashMap::with_capacity(categories.len());
        for (class, category) in (0..).zip(&categories) {
            if let Some(first) = classes.insert(category.id, class) {
                return Err(CocoError::DuplicateCategory {
                    id: category.id,
                    first: categories[first as usize].name.clone(),
                    second: category.name.clone(),
                });
            }
            if let Some(first) = names.insert(&category.name, category.id) {
                return Err(CocoError::DuplicateName { name: category.name.clone(), first, second: category.id });
            }
        }
        Ok(LabelMap { categories, classes })
    }

    /// The number of classes in the map, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.categories.len()
    }

    /// The class (0 to `len() - 1`) of a category id, or `None` if the id is not in the map.
    pub fn class_of(&self, id: i64) -> Option<u32> {
        self.classes.get(&id).copied()
    }

    /// The id and name of the category that a class stands for.
    ///
    /// # Panics
    /// If `class >= len()`.
    pub fn category(&self, class: u32) -> &CategoryInfo {
        &self.categories[class as usize]
    }

    /// All categories in the order of the classes: index `i` is class `i`.
    pub fn categories(&self) -> &[CategoryInfo] {
        &self.categories
    }
}
