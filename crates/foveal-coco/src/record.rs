//! The records of COCO files: images, annotations, categories and detections, and how they are read from JSON whatever
//! that holds. Every message names the record.

use serde::{Deserialize, Serialize, Serializer};

use crate::scalar::{Numbers, Scalar};

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

/// A detection as COCO's results format has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawDetection")]
pub struct CocoDetection {
    /// The image.
    pub image_id: i64,
    /// What it is said to be.
    pub category_id: i64,
    /// x, y (of the upper left corner), width, height in pixels of the original image.
    pub bbox: [f64; 4],
    /// Confidence; only its order matters.
    pub score: f64,
}

fn wrong(record: &str, field: &str, expected: &str, found: &Scalar) -> String {
    format!("{record}: `{field}` is {found}, expected {expected}")
}

fn integer(record: &str, field: &str, value: &Scalar) -> Result<i64, String> {
    value.integer().ok_or_else(|| wrong(record, field, "an integer", value))
}

/// Pixels; absent sizes are 0.
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

/// Four numbers, or four NaN for an absent box.
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
        *slot = v.number().ok_or_else(|| format!("{record}: `bbox` holds {v}, expected {EXPECTED}"))?;
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
            iscrowd: raw.iscrowd.flag().ok_or_else(|| wrong(&record, "iscrowd", "0, 1 or a bool", &raw.iscrowd))?,
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
                "{record}: `bbox` is absent or not finite, expected four numbers (x, y, width, height)"
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
