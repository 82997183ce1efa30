//! COCO annotation files: images, annotations and categories.

use std::{collections::HashSet, fmt, io, path::Path};

use foveal_base::write_atomically_with;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{Annotation, Category, CocoError, Finding, Image, file};

/// The content of a COCO annotation file. Each list is in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CocoDataset {
    /// All images, including those without annotations.
    pub images: Vec<Image>,
    /// All objects and crowd regions of all images.
    pub annotations: Vec<Annotation>,
    /// All categories, including those without annotations.
    pub categories: Vec<Category>,
}

/// The three lists, if present. The reader is written by hand because a derived one would also accept a JSON list in
/// place of the object.
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
    /// Reads a COCO annotation file. A gzipped file is recognised by its first bytes.
    ///
    /// Defects of single records, such as an unknown category, are not errors here; see [`CocoDataset::findings`].
    ///
    /// # Errors
    /// - [`CocoError::Read`] if the file cannot be read or unpacked.
    /// - [`CocoError::Json`] with the file, line, record and field if the text is not JSON, a field has another type,
    ///   or a box does not have four numbers.
    /// - [`CocoError::MissingSection`] if `images`, `annotations` or `categories` is absent.
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        Self::from_bytes(&file::read(path)?, path)
    }

    /// Parses the content of a COCO annotation file, gzipped or not. `path` is only used in error messages.
    ///
    /// # Errors
    /// - [`CocoError::Read`] if gzipped content cannot be unpacked.
    /// - [`CocoError::Json`] with the line, record and field if the text is not JSON, a field has another type, or a
    ///   box does not have four numbers.
    /// - [`CocoError::MissingSection`] if `images`, `annotations` or `categories` is absent.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CocoError> {
        let sections: Sections = file::parse(bytes, path)?;
        let missing = |section| CocoError::MissingSection { path: path.to_owned(), section };
        Ok(CocoDataset {
            images: sections.images.ok_or_else(|| missing("images"))?,
            annotations: sections.annotations.ok_or_else(|| missing("annotations"))?,
            categories: sections.categories.ok_or_else(|| missing("categories"))?,
        })
    }

    /// Writes the data set as a COCO annotation file, which pycocotools can read. The file is written atomically.
    ///
    /// # Errors
    /// [`CocoError::Write`] if the file cannot be written; an existing file is then unchanged.
    pub fn write(&self, path: &Path) -> Result<(), CocoError> {
        Ok(write_atomically_with(path, |out| serde_json::to_writer(out, self).map_err(io::Error::from))?)
    }

    /// Lists the defects of single records that prevent training or evaluation with them: first those of the
    /// categories, then of the images, then of the annotations. A record can have several defects.
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
