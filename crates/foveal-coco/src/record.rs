//! The records of COCO files: images, annotations, categories and detections. Each is read through a raw form that
//! accepts any JSON value, so that an error message can name the record and the field.

use serde::{Deserialize, Serialize, Serializer};

use crate::scalar::{Numbers, Scalar};

/// An image of a COCO annotation file (an entry of `images`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawImage")]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawAnnotation")]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCategory")]
pub struct Category {
    /// Id of the category; any integer, gaps allowed, unique in a valid file.
    pub id: i64,
    /// Name of the category, as shown to users; `category_<id>` if the file gives none.
    pub name: String,
    /// Name of the group of categories that this one belongs to, such as `animal`; `None` if the file gives none.
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawDetection")]
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

fn wrong(record: &str, field: &str, expected: &str, found: &Scalar) -> String {
    format!("{record}: `{field}` is {found}, expected {expected}")
}

fn integer(record: &str, field: &str, value: &Scalar) -> Result<i64, String> {
    value.integer().ok_or_else(|| wrong(record, field, "an integer", value))
}

/// A size in pixels; a missing size is 0.
fn size(record: &str, field: &str, value: &Scalar) -> Result<u32, String> {
    if value.is_missing() {
        return Ok(0);
    }
    value
        .integer()
        .and_then(|v| u32::try_from(v).ok())
        .ok_or_else(|| wrong(record, field, "a whole number of pixels", value))
}

fn text(record: &str, field: &str, value: Scalar) -> Result<Option<String>, String> {
    match value {
        Scalar::Missing => Ok(None),
        Scalar::Text(v) => Ok(Some(v)),
        Scalar::Int(v) => Ok(Some(v.to_string())),
        other => Err(wrong(record, field, "a string", &other)),
    }
}

/// The four numbers of a box, or four NaN if the box is missing.
fn xywh(record: &str, value: &Numbers) -> Result<[f64; 4], String> {
    const EXPECTED: &str = "four numbers (x, y, width, height)";
    let list = match value {
        Numbers::Missing => return Ok([f64::NAN; 4]),
        Numbers::Other(v) => return Err(wrong(record, "bbox", EXPECTED, v)),
        Numbers::List(list) => list,
    };
    if list.len() != 4 {
        let numbers = if list.len() == 1 { "number" } else { "numbers" };
        return Err(format!("{record}: `bbox` has {} {numbers}, expected {EXPECTED}", list.len()));
    }
    let mut out = [0.0; 4];
    for (slot, v) in out.iter_mut().zip(list) {
        *slot = v.number().ok_or_else(|| format!("{record}: `bbox` contains {v}, expected {EXPECTED}"))?;
    }
    Ok(out)
}

#[derive(Deserialize)]
#[serde(default, expecting = "an image object {id, file_name, width, height}")]
#[derive(Default)]
struct RawImage {
    id: Scalar,
    file_name: Scalar,
    width: Scalar,
    height: Scalar,
}

impl TryFrom<RawImage> for Image {
    type Error = String;

    fn try_from(raw: RawImage) -> Result<Self, String> {
        let id = raw.id.integer().ok_or_else(|| match &raw.file_name {
            Scalar::Text(name) => wrong(&format!("image {name:?}"), "id", "an integer", &raw.id),
            _ => wrong("image", "id", "an integer", &raw.id),
        })?;
        let record = format!("image {id}");
        Ok(Image {
            id,
            width: size(&record, "width", &raw.width)?,
            height: size(&record, "height", &raw.height)?,
            file_name: text(&record, "file_name", raw.file_name)?.unwrap_or_default(),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an annotation object {id, image_id, category_id, bbox}")]
struct RawAnnotation {
    id: Scalar,
    image_id: Scalar,
    category_id: Scalar,
    bbox: Numbers,
    area: Scalar,
    iscrowd: Scalar,
}

impl TryFrom<RawAnnotation> for Annotation {
    type Error = String;

    fn try_from(raw: RawAnnotation) -> Result<Self, String> {
        let id = integer("annotation", "id", &raw.id)?;
        let record = format!("annotation {id}");
        let bbox = xywh(&record, &raw.bbox)?;
        let area = match raw.area.number() {
            Some(v) if !v.is_nan() => v,
            Some(_) => bbox[2] * bbox[3],
            None => return Err(wrong(&record, "area", "a number", &raw.area)),
        };
        Ok(Annotation {
            id,
            image_id: integer(&record, "image_id", &raw.image_id)?,
            category_id: integer(&record, "category_id", &raw.category_id)?,
            bbox,
            area,
            iscrowd: raw
                .iscrowd
                .flag()
                .ok_or_else(|| wrong(&record, "iscrowd", "0, 1, true or false", &raw.iscrowd))?,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "a category object {id, name}")]
struct RawCategory {
    id: Scalar,
    name: Scalar,
    supercategory: Scalar,
}

impl TryFrom<RawCategory> for Category {
    type Error = String;

    fn try_from(raw: RawCategory) -> Result<Self, String> {
        let id = raw.id.integer().ok_or_else(|| match &raw.name {
            Scalar::Text(name) => wrong(&format!("category {name:?}"), "id", "an integer", &raw.id),
            _ => wrong("category", "id", "an integer", &raw.id),
        })?;
        let record = format!("category {id}");
        Ok(Category {
            id,
            name: text(&record, "name", raw.name)?.unwrap_or_else(|| format!("category_{id}")),
            supercategory: text(&record, "supercategory", raw.supercategory)?,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "a detection object {image_id, category_id, bbox, score}")]
struct RawDetection {
    image_id: Scalar,
    category_id: Scalar,
    bbox: Numbers,
    score: Scalar,
}

impl TryFrom<RawDetection> for CocoDetection {
    type Error = String;

    fn try_from(raw: RawDetection) -> Result<Self, String> {
        let image_id = integer("detection", "image_id", &raw.image_id)?;
        let record = format!("detection on image {image_id}");
        let bbox = xywh(&record, &raw.bbox)?;
        if bbox.iter().any(|v| !v.is_finite()) {
            return Err(format!(
                "{record}: `bbox` is missing or not finite, expected four finite numbers (x, y, width, height)"
            ));
        }
        Ok(CocoDetection {
            image_id,
            category_id: integer(&record, "category_id", &raw.category_id)?,
            bbox,
            score: raw
                .score
                .number()
                .filter(|v| v.is_finite())
                .ok_or_else(|| wrong(&record, "score", "a finite number", &raw.score))?,
        })
    }
}
