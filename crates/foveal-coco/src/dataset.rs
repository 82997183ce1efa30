//! The content of a COCO annotation file: images, annotations and categories.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use foveal_base::write_atomically_with;
use serde::Serialize;

use crate::{Annotation, Category, CocoError, CocoFile, Finding, Image, List};

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

impl CocoDataset {
    /// Reads a COCO annotation file of which every record can be read. [`CocoFile`] also reads files with bad records.
    ///
    /// Defects of records that can be read, such as an unknown category, are not errors here; see
    /// [`CocoDataset::findings`].
    ///
    /// # Errors
    /// - [`CocoError::Read`] if the path is not a regular file, or cannot be read or unpacked.
    /// - [`CocoError::Json`] with the file, line, record and field if the text is not JSON, a field has another type,
    ///   or a box does not have four numbers.
    /// - [`CocoError::MissingSection`] if `images`, `annotations` or `categories` is absent.
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        CocoFile::read(path)?.without_bad_records(path)
    }

    /// Parses the content of a COCO annotation file, gzipped or not. `path` is only used in error messages.
    ///
    /// # Errors
    /// - [`CocoError::Read`] if gzipped content cannot be unpacked.
    /// - [`CocoError::Json`] with the line, record and field if the text is not JSON, a field has another type, or a
    ///   box does not have four numbers.
    /// - [`CocoError::MissingSection`] if `images`, `annotations` or `categories` is absent.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CocoError> {
        CocoFile::from_bytes(bytes, path)?.without_bad_records(path)
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
        self.find(&HashSet::new(), |_, _, finding| findings.push(finding));
        findings
    }

    /// Gives every defect to `found`, with the list and the index of its record in this data set. Annotations of the
    /// images `left_out` are not defective: their images are known, though they are not in the list.
    pub(crate) fn find(&self, left_out: &HashSet<i64>, mut found: impl FnMut(List, usize, Finding)) {
        let mut categories: HashMap<i64, &str> = HashMap::with_capacity(self.categories.len());
        for (index, category) in self.categories.iter().enumerate() {
            // A category that is listed twice with the same name is not ambiguous.
            if categories.insert(category.id, &category.name).is_some_and(|name| name != category.name) {
                found(List::Categories, index, Finding::DuplicateCategory { category_id: category.id });
            }
        }
        let mut images = HashSet::with_capacity(self.images.len());
        for (index, image) in self.images.iter().enumerate() {
            let mut found = |finding| found(List::Images, index, finding);
            if !images.insert(image.id) {
                found(Finding::DuplicateImage { image_id: image.id });
            }
            if image.file_name.is_empty() {
                found(Finding::NoFileName { image_id: image.id });
            }
            if image.width == 0 || image.height == 0 {
                found(Finding::NoSize { image_id: image.id });
            }
        }
        let mut ids = HashSet::with_capacity(self.annotations.len());
        for (index, annotation) in self.annotations.iter().enumerate() {
            let mut found = |finding| found(List::Annotations, index, finding);
            let Annotation { id: annotation_id, image_id, category_id, bbox, .. } = *annotation;
            if !ids.insert(annotation_id) {
                found(Finding::DuplicateAnnotation { annotation_id, image_id });
            }
            if !images.contains(&image_id) && !left_out.contains(&image_id) {
                found(Finding::UnknownImage { annotation_id, image_id });
            }
            if !categories.contains_key(&category_id) {
                found(Finding::UnknownCategory { annotation_id, image_id, category_id });
            }
            if bbox.iter().any(|v| !v.is_finite()) {
                found(Finding::NotFinite { annotation_id, image_id });
            } else if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
                found(Finding::EmptyBox { annotation_id, image_id, bbox });
            }
        }
    }
}
