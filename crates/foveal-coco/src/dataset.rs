//! A COCO annotation file: images, annotations, categories.

use std::{collections::HashSet, fmt, io, path::Path};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{
    CocoError, Finding, file,
    record::{RawAnnotation, RawCategory, RawImage},
};

/// An image of the set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawImage")]
pub struct Image {
    /// Unique in the file; any integer.
    pub id: i64,
    /// Relative to the image folder; empty where the file has none.
    pub file_name: String,
    /// Pixels; 0 where the file has none.
    pub width: u32,
    /// Pixels; 0 where the file has none.
    pub height: u32,
}

/// An object, or a crowd region, on an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawAnnotation")]
pub struct Annotation {
    /// Unique in the file; any integer.
    pub id: i64,
    /// The image it is on.
    pub image_id: i64,
    /// What it is.
    pub category_id: i64,
    /// x, y (of the upper left corner), width, height in pixels, as in the file; NaN where it has
    /// no box or a value is not a number.
    #[serde(serialize_with = "finite_or_null")]
    pub bbox: [f64; 4],
    /// Square pixels: of the mask where the file says so, else of the box.
    pub area: f64,
    /// A region of many objects, none of them outlined: neither object nor background.
    #[serde(serialize_with = "zero_or_one")]
    pub iscrowd: bool,
}

/// A kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCategory")]
pub struct Category {
    /// Unique in the file; any integer, gaps allowed.
    pub id: i64,
    /// For people; `category_<id>` where the file has none.
    pub name: String,
    /// The group it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supercategory: Option<String>,
}

/// Boxes that the reader found unusable are written back as such.
fn finite_or_null<S: Serializer>(bbox: &[f64; 4], serializer: S) -> Result<S::Ok, S::Error> {
    bbox.iter().all(|v| v.is_finite()).then_some(bbox).serialize(serializer)
}

/// pycocotools computes with the flag.
fn zero_or_one<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}

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
        file::write_atomically(path, |out| serde_json::to_writer(out, self).map_err(io::Error::from))
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
