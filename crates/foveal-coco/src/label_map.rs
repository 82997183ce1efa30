//! From a file's category ids to the contiguous classes of a model, and back.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Category, CocoError};

/// What a class of a model stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryInfo {
    /// The id in COCO files.
    pub id: i64,
    /// For people.
    pub name: String,
}

/// Category ids (any integers, with gaps) to classes `0..len` and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    categories: Vec<CategoryInfo>,
    classes: HashMap<i64, u32>,
}

impl LabelMap {
    /// Classes in the order of the ids, whatever the file's order.
    ///
    /// # Errors
    /// [`CocoError::NoCategories`], [`CocoError::DuplicateCategory`], [`CocoError::DuplicateName`].
    pub fn from_categories(categories: &[Category]) -> Result<Self, CocoError> {
        let mut infos: Vec<CategoryInfo> =
            categories.iter().map(|c| CategoryInfo { id: c.id, name: c.name.clone() }).collect();
        infos.sort_by_key(|c| c.id);
        Self::new(infos)
    }

    /// Classes in the given order: that of a model's channels.
    ///
    /// # Errors
    /// [`CocoError::NoCategories`], [`CocoError::DuplicateCategory`], [`CocoError::DuplicateName`].
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

    /// The number of classes, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.categories.len()
    }

    /// The class of a category id, or `None` for an id that is not in the map.
    pub fn class_of(&self, id: i64) -> Option<u32> {
        self.classes.get(&id).copied()
    }

    /// The category of a class.
    ///
    /// # Panics
    /// If `class >= len()`.
    pub fn category(&self, class: u32) -> &CategoryInfo {
        &self.categories[class as usize]
    }

    /// All categories, by class.
    pub fn categories(&self) -> &[CategoryInfo] {
        &self.categories
    }
}
