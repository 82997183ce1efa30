//! The meaning of the fields of a record: from raw values to images, annotations, categories and detections.

use crate::{
    Annotation, Category, CocoDetection, Image,
    json::Place,
    raw::{Raw, RawRecord},
    scalar::{Numbers, Scalar},
};

/// A record of a COCO file that cannot be used, because it is not an object or one of its fields has no meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    /// The place of the record in the file.
    pub place: Place,
    /// Column of the end of the record in its last line, in bytes from 1.
    pub column: u64,
    /// Id of the record, if it can be read. A detection has none.
    pub id: Option<i64>,
    /// Id of the image that the record is, or belongs to, if it can be read.
    pub image_id: Option<i64>,
    /// Description of the defect: the record, the field, the expected and the found value.
    pub message: String,
}

/// How much of an image record has to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageFields {
    /// The id, the file name and the size.
    All,
    /// The id and the file name; the size becomes 0x0.
    Names,
}

pub(crate) fn image(raw: Raw, fields: ImageFields) -> Result<Image, String> {
    let raw = object(raw, "an image object {id, file_name, width, height}")?;
    let id = raw.id.integer().ok_or_else(|| match &raw.file_name {
        Scalar::Text(name) => wrong(&format!("image {name:?}"), "id", "an integer", &raw.id),
        _ => wrong("image", "id", "an integer", &raw.id),
    })?;
    let record = format!("image {id}");
    let [width, height] = match fields {
        ImageFields::Names => [0, 0],
        ImageFields::All => [size(&record, "width", &raw.width)?, size(&record, "height", &raw.height)?],
    };
    Ok(Image { id, width, height, file_name: text(&record, "file_name", raw.file_name)?.unwrap_or_default() })
}

pub(crate) fn annotation(raw: Raw) -> Result<Annotation, String> {
    let raw = object(raw, "an annotation object {id, image_id, category_id, bbox}")?;
    let id = integer("annotation", "id", &raw.id)?;
    let bad = |message: Result<_, String>| message.map_err(|what| format!("annotation {id}{what}"));
    let bbox = bad(xywh(&raw.bbox))?;
    let area = match raw.area.number() {
        Some(v) if !v.is_nan() => v,
        Some(_) => bbox[2] * bbox[3],
        None => return Err(wrong(&format!("annotation {id}"), "area", "a number", &raw.area)),
    };
    let integer = |field, value| integer(&format!("annotation {id}"), field, value);
    Ok(Annotation {
        id,
        image_id: integer("image_id", &raw.image_id)?,
        category_id: integer("category_id", &raw.category_id)?,
        bbox,
        area,
        iscrowd: raw
            .iscrowd
            .flag()
            .ok_or_else(|| wrong(&format!("annotation {id}"), "iscrowd", "0, 1, true or false", &raw.iscrowd))?,
    })
}

pub(crate) fn category(raw: Raw) -> Result<Category, String> {
    let raw = object(raw, "a category object {id, name}")?;
    let id = raw.id.integer().ok_or_else(|| match &raw.name {
        Scalar::Text(name) => wrong(&format!("category {name:?}"), "id", "an integer", &raw.id),
        _ => wrong("category", "id", "an integer", &raw.id),
    })?;
    let record = format!("category {id}");
    Ok(Category {
        id,
        name: text(&record, "name", raw.name)?.unwrap_or_else(|| format!("category_{id}")),
        // No command needs it, so that another value is no defect.
        supercategory: text(&record, "supercategory", raw.supercategory).unwrap_or(None),
    })
}

pub(crate) fn detection(raw: Raw) -> Result<CocoDetection, String> {
    let raw = object(raw, "a detection object {image_id, category_id, bbox, score}")?;
    let image_id = integer("detection", "image_id", &raw.image_id)?;
    let record = || format!("detection on image {image_id}");
    let bbox = xywh(&raw.bbox).map_err(|what| format!("{}{what}", record()))?;
    if bbox.iter().any(|v| !v.is_finite()) {
        return Err(format!(
            "{}: `bbox` is missing or not finite, expected four finite numbers (x, y, width, height)",
            record()
        ));
    }
    let score = raw.score.number().filter(|v| v.is_finite());
    Ok(CocoDetection {
        image_id,
        category_id: raw
            .category_id
            .integer()
            .ok_or_else(|| wrong(&record(), "category_id", "an integer", &raw.category_id))?,
        bbox,
        score: score.ok_or_else(|| wrong(&record(), "score", "a finite number", &raw.score))?,
    })
}

/// The ids of a record and of its image, as far as they can be read.
pub(crate) fn ids(raw: &Raw) -> [Option<i64>; 2] {
    match raw {
        Raw::Record(record) => [record.id.integer(), record.image_id.integer()],
        Raw::Other(_) => [None, None],
    }
}

fn object(raw: Raw, expected: &str) -> Result<Box<RawRecord>, String> {
    match raw {
        Raw::Record(record) => Ok(record),
        Raw::Other(found) => Err(format!("expected {expected}, found {}", Found(&found))),
    }
}

/// A value in a list; a missing one is `null` there.
struct Found<'a>(&'a Scalar);

impl std::fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Scalar::Missing => f.write_str("null"),
            other => other.fmt(f),
        }
    }
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

/// The four numbers of a box, or four NaN if the box is missing. The error does not name the record.
fn xywh(value: &Numbers) -> Result<[f64; 4], String> {
    const EXPECTED: &str = "four numbers (x, y, width, height)";
    let list = match value {
        Numbers::Missing => return Ok([f64::NAN; 4]),
        Numbers::Other(v) => return Err(wrong("", "bbox", EXPECTED, v)),
        Numbers::Length(length) => {
            let numbers = if *length == 1 { "number" } else { "numbers" };
            return Err(format!(": `bbox` has {length} {numbers}, expected {EXPECTED}"));
        }
        Numbers::Four(list) => list,
    };
    let mut out = [0.0; 4];
    for (slot, v) in out.iter_mut().zip(list) {
        *slot = v.number().ok_or_else(|| format!(": `bbox` contains {v}, expected {EXPECTED}"))?;
    }
    Ok(out)
}
