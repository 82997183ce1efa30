//! The records of COCO files: images, annotations, categories and detections.

use serde::{Serialize, Serializer};

/// An image of a COCO annotation file (an entry of `images`).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Image {
    /// Id of the image; any integer, unique in a valid file.
    pub id: i64,
    /// Path of the image file relative to the image folder; empty if the annotation file gives none.
    pub file_name: String,
    /// Width in pixels; 0 if the annotation file gives none.
    pub width: u32,
    /// Height in pixels; 0 if the annotation file gives none.
    pub height: u32,
}

/// An object, or a crowd region, in an image (an entry of `annotations` of a COCO annotation file).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Annotation {
    /// Id of the annotation; any integer, unique in a valid file.
    pub id: i64,
    /// Id of the image that contains the object.
    pub image_id: i64,
    /// Id of the object's category.
    pub category_id: i64,
    /// `[x, y, width, height]` in pixels as in the file, where (x, y) is the top left corner. All four values are NaN
    /// if the file gives no box; a single value is NaN if the file has `null`, `NaN` or an infinity in its place.
    #[serde(serialize_with = "finite_or_null")]
    pub bbox: [f64; 4],
    /// Area in square pixels: the value of the file, which is usually the area of the mask, or else the area of the
    /// box.
    pub area: f64,
    /// Whether this is a crowd region: many objects that are not outlined one by one. A crowd region counts neither as
    /// an object nor as background.
    #[serde(serialize_with = "zero_or_one")]
    pub iscrowd: bool,
}

/// A category of objects (an entry of `categories` of a COCO annotation file).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Category {
    /// Id of the category; any integer, gaps allowed, unique in a valid file.
    pub id: i64,
    /// Name of the category, as shown to users; `category_<id>` if the file gives none.
    pub name: String,
    /// Name of the group of categories that this one belongs to, such as `animal`; `None` if the file gives no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supercategory: Option<String>,
}

/// Writes a box that is not finite as `null`, since JSON has no NaN.
fn finite_or_null<S: Serializer>(bbox: &[f64; 4], serializer: S) -> Result<S::Ok, S::Error> {
    bbox.iter().all(|v| v.is_finite()).then_some(bbox).serialize(serializer)
}

/// Writes the flag as 0 or 1, because pycocotools computes with it.
fn zero_or_one<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}

/// A detection: an entry of a COCO results file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CocoDetection {
    /// Id of the image in which the object was detected.
    pub image_id: i64,
    /// Id of the detected category.
    pub category_id: i64,
    /// `[x, y, width, height]` in pixels of the original image, where (x, y) is the top left corner. All values are
    /// finite.
    pub bbox: [f64; 4],
    /// Confidence of the detection, a finite number, usually from 0 to 1. COCO's metrics depend only on the order of
    /// the scores.
    pub score: f64,
}
