//! The classes that the annotations of one file belong to.

use std::collections::{BTreeMap, HashMap, HashSet};

use foveal_coco::{Annotation, Category, CategoryInfo, CocoDataset, LabelMap};

use super::DroppedObjects;
use super::ids::UniqueIds;
use crate::{CheckReport, Problem};

/// What the categories of an annotation file are.
pub(crate) enum Categories<'a> {
    /// They are the classes.
    Own,
    /// They must be among these classes of a model, by id and by name.
    Of(&'a LabelMap),
    /// They become these classes.
    Mapped(&'a LabelMap, ClassMap),
}

impl Categories<'_> {
    /// The classes of a model that the categories are compared with.
    pub(crate) fn known(&self) -> Option<&LabelMap> {
        match self {
            Self::Of(labels) => Some(labels),
            Self::Own | Self::Mapped(..) => None,
        }
    }

    /// Whether a category is not dropped.
    pub(crate) fn keep(&self, category: &Category) -> bool {
        match self {
            Self::Own | Self::Of(_) => true,
            Self::Mapped(_, map) => map.classes.get(&category.id).is_some_and(|(_, class)| class.is_some()),
        }
    }
}

/// Which class the categories of an annotation file are.
#[derive(Clone, Debug)]
pub(crate) struct ClassMap {
    /// The name of each category, and the id of its class; `None` if its objects are dropped.
    classes: HashMap<i64, (String, Option<i64>)>,
    dropped: DroppedObjects,
}

impl ClassMap {
    /// A map without categories.
    pub(crate) fn new(dropped: DroppedObjects) -> Self {
        Self { classes: HashMap::new(), dropped }
    }

    /// Adds a category that is the class with this id.
    pub(crate) fn add(&mut self, category: &CategoryInfo, class: i64) {
        self.classes.insert(category.id, (category.name.clone(), Some(class)));
    }

    /// Adds a category whose objects are dropped.
    pub(crate) fn drop(&mut self, category: &CategoryInfo) {
        self.classes.insert(category.id, (category.name.clone(), None));
    }

    /// The id of the class of a category, `Some(None)` if its objects are dropped, `None` if the file does not have it.
    #[cfg(test)]
    pub(crate) fn class(&self, category: i64) -> Option<Option<i64>> {
        self.classes.get(&category).map(|(_, class)| *class)
    }

    /// Gives the annotations the ids of their classes, and the data set the categories of `labels`. `refused` are the
    /// indices of annotations that cannot be used; those that are dropped are added to it. Returns the ids of the
    /// annotations that became ignored regions, which are of the first class.
    pub(crate) fn apply(
        &self,
        coco: &mut CocoDataset,
        labels: &LabelMap,
        refused: &mut HashSet<usize>,
        report: &mut CheckReport,
    ) -> HashSet<i64> {
        let mut ignored = HashSet::new();
        let mut dropped: BTreeMap<(i64, &str), usize> = BTreeMap::new();
        for (index, annotation) in coco.annotations.iter_mut().enumerate() {
            if refused.contains(&index) {
                continue;
            }
            match self.classes.get(&annotation.category_id) {
                Some((_, Some(class))) => annotation.category_id = *class,
                Some((name, None)) => {
                    *dropped.entry((annotation.category_id, name.as_str())).or_default() += 1;
                    if self.dropped == DroppedObjects::Ignored {
                        ignored.insert(annotation.id);
                        annotation.iscrowd = true;
                        annotation.category_id = labels.category(0).id;
                    } else {
                        refused.insert(index);
                    }
                }
                // Only categories without annotations are in no map.
                None => {
                    refused.insert(index);
                }
            }
        }
        for ((id, name), count) in dropped {
            let becomes = if self.dropped == DroppedObjects::Ignored { "ignored" } else { "background" };
            report.add_many(Problem::DroppedClass, count, format!("category {id} {name:?}: {count}, {becomes}"));
        }
        let category = |info: &CategoryInfo| Category { id: info.id, name: info.name.clone(), supercategory: None };
        coco.categories = labels.categories().iter().map(category).collect();
        ignored
    }
}

/// Makes the annotations with the ids `ignored`, which are crowd regions of the first class, crowd regions of all
/// classes: an evaluation ignores detections only of the class of a region.
pub(crate) fn ignore_all_classes(coco: &mut CocoDataset, labels: &LabelMap, ignored: &HashSet<i64>) {
    if ignored.is_empty() {
        return;
    }
    let mut ids = UniqueIds::new(coco.annotations.iter().map(|annotation| annotation.id));
    let regions = coco.annotations.iter().filter(|a| a.iscrowd && ignored.contains(&a.id));
    let copies: Vec<Annotation> = regions
        .flat_map(|region| labels.categories()[1..].iter().map(move |class| (region, class.id)))
        .map(|(region, category_id)| Annotation { id: ids.free(), category_id, ..region.clone() })
        .collect();
    coco.annotations.extend(copies);
}
