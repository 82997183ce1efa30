//! A COCO annotation file: images, annotations, categories.

use std::{collections::HashSet, fmt, io, path::Path};

use foveal_base::write_atomically_with;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{Annotation, Category, CocoError, Finding, Image, file};

/// The content of a COCO annotation file, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CocoDataset {
    /// All images, also those without objects.
    pub images: Vec<Image>,
    /// All objects and crowd regions.
    pub annotations: Vec<Annotation>,
    /// All kinds, also those without objects.
    pub categories: Vec<Category>,
}

/// The three lists where present; a derived reader would also take a list for the object.
#[derive(Default)]
struct Sections {
    images: Option<Vec<Image>>,
    annotations: Option<Vec<Annotation>>,
    categories: Option<Vec<Category>>,
}

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionsVisitor)
    }
}

struct SectionsVisitor;

impl<'de> Visitor<'de> for SectionsVisitor {
    type Value = Sections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a COCO object with the lists `images`, `annotations` and `categories`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sections, A::Error> {
        let mut sections = Sections::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "images" => sections.images = map.next_value()?,
                "annotations" => sections.annotations = map.next_value()?,
                "categories" => sections.categories = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(sections)
    }
}

impl CocoDataset {
    /// Reads an annotation file, gzipped or not (told by its first bytes).
    ///
    /// # Errors
    /// [`CocoError`] naming the file and, where there is one, the line, the record's id and the
    /// field: unreadable, no JSON, a list missing, a field of another type, a box that has not
    /// four numbers. Defects of content are left to [`CocoDataset::findings`].
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        Self::from_bytes(&file::read(path)?, path)
    }

    /// Parses the content of an annotation file; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`CocoDataset::read`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CocoError> {
        let sections: Sections = file::parse(bytes, path)?;
        let missing = |section| CocoError::MissingSection { path: path.to_owned(), section };
        Ok(CocoDataset {
            images: sections.images.ok_or_else(|| missing("images"))?,
            annotations: sections.annotations.ok_or_else(|| missing("annotations"))?,
            categories: sections.categories.ok_or_else(|| missing("categories"))?,
        })
    }

    /// Writes the set as COCO JSON that pycocotools reads; atomically.
    ///
    /// # Errors
    /// [`CocoError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), CocoError> {
        Ok(write_atomically_with(path, |out| serde_json::to_writer(out, self).map_err(io::Error::from))?)
    }

    /// Everything in the set that cannot be trained on or evaluated as it stands, in the order
    /// categories, images, annotations. One record can have several.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut categories = HashSet::with_capacity(self.categories.len());
        for category in &self.categories {
            if !categories.insert(category.id) {
                findings.push(Finding::DuplicateCategory { category_id: category.id });
            }
        }
        let mut images = HashSet::with_capacity(self.images.len());
        for image in &self.images {
            if !images.insert(image.id) {
                findings.push(Finding::DuplicateImage { image_id: image.id });
            }
            if image.file_name.is_empty() {
                findings.push(Finding::NoFileName { image_id: image.id });
            }
            if image.width == 0 || image.height == 0 {
                findings.push(Finding::NoSize { image_id: image.id });
            }
        }
        let mut ids = HashSet::with_capacity(self.annotations.len());
        for annotation in &self.annotations {
            let Annotation { id: annotation_id, image_id, category_id, bbox, .. } = *annotation;
            if !ids.insert(annotation_id) {
                findings.push(Finding::DuplicateAnnotation { annotation_id, image_id });
            }
            if !images.contains(&image_id) {
                findings.push(Finding::UnknownImage { annotation_id, image_id });
            }
            if !categories.contains(&category_id) {
                findings.push(Finding::UnknownCategory { annotation_id, image_id, category_id });
            }
            if bbox.iter().any(|v| !v.is_finite()) {
                findings.push(Finding::NotFinite { annotation_id, image_id });
            } else if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
                findings.push(Finding::EmptyBox { annotation_id, image_id, bbox });
            }
        }
        findings
    }
}
