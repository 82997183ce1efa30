//! Fields of COCO annotations that are not converted.

use std::path::Path;

use foveal_base::text::read_data_text;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::notes::Notes;

/// The fields of a file that are not converted.
#[derive(Deserialize)]
pub(super) struct Extras {
    #[serde(default)]
    annotations: Vec<Fields>,
}

/// The fields of an annotation that are not converted.
#[derive(Deserialize)]
struct Fields {
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

    /// Notes the number of annotations with each field.
    pub(super) fn count(&self, notes: &mut Notes) {
        let count = |has: fn(&Fields) -> bool| self.annotations.iter().filter(|fields| has(fields)).count();
        notes.fields("segmentation", count(|fields| fields.segmentation.as_ref().is_some_and(Shape::is_some)));
        notes.fields("keypoints", count(|fields| fields.keypoints.as_ref().is_some_and(|points| !points.is_empty())));
        notes.fields("attributes", count(|fields| fields.attributes.as_ref().is_some_and(|fields| !fields.is_empty())));
        notes.fields("ignore", count(|fields| is_yes(&fields.ignore)));
        notes.fields("score", count(|fields| fields.score.is_number()));
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

fn is_yes(value: &serde_json::Value) -> bool {
    value.as_bool() == Some(true) || value.as_f64().is_some_and(|number| number != 0.0)
}
