//! Fields of COCO annotations that are not converted.

use std::collections::HashSet;
use std::path::Path;

use foveal_base::text::read_data_text;
use foveal_coco::Annotation;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::notes::{Kind, Notes};

/// The fields of a file that are not converted.
#[derive(Deserialize)]
pub(super) struct Extras {
    #[serde(default)]
    annotations: Vec<Fields>,
}

/// The fields of an annotation that are not converted.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    image_id: serde_json::Value,
    segmentation: Option<Shape>,
    keypoints: Option<Vec<IgnoredAny>>,
    attributes: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    ignore: serde_json::Value,
    #[serde(default)]
    score: serde_json::Value,
}

/// A segmentation: a list of polygons, or a mask.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Polygons(Vec<IgnoredAny>),
    Mask(IgnoredAny),
}

impl Extras {
    /// Reads the fields of a file. `None` for a file in another form, such as a gzipped one, whose boxes alone are
    /// read.
    pub(super) fn of(path: &Path) -> Option<Self> {
        serde_json::from_str(&read_data_text(path).ok()?).ok()
    }

    /// Notes the number of annotations with each field, of those that are converted.
    pub(super) fn count(&self, converted: &[Annotation], notes: &mut Notes) {
        let converted: HashSet<(i64, i64)> = converted.iter().map(|a| (a.id, a.image_id)).collect();
        for fields in &self.annotations {
            let Some((id, image_id)) = integer(&fields.id).zip(integer(&fields.image_id)) else { continue };
            if !converted.contains(&(id, image_id)) {
                continue;
            }
            let first = || format!("annotation {id} (image {image_id})");
            if fields.segmentation.as_ref().is_some_and(Shape::is_some) {
                notes.add(Kind::Segmentation, first);
            }
            if fields.keypoints.as_ref().is_some_and(|points| !points.is_empty()) {
                notes.add(Kind::KeypointsField, first);
            }
            let has_attributes = fields.attributes.as_ref().is_some_and(|fields| !fields.is_empty());
            notes.fields("attributes", usize::from(has_attributes));
            notes.fields("ignore", usize::from(is_yes(&fields.ignore)));
            notes.fields("score", usize::from(fields.score.is_number()));
        }
    }
}

impl Shape {
    fn is_some(&self) -> bool {
        match self {
            Self::Polygons(polygons) => !polygons.is_empty(),
            Self::Mask(IgnoredAny) => true,
        }
    }
}

/// An id, which some programs write as `3.0`.
fn integer(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64))
}

fn is_yes(value: &serde_json::Value) -> bool {
    value.as_bool() == Some(true) || value.as_f64().is_some_and(|number| number != 0.0)
}
