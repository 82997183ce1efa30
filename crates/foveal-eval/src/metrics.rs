//! The figures, and their JSON.

use serde_json::{Map, Value, json};

/// COCO's twelve figures and two for each class: fractions in 0..=1, or -1 where COCO leaves a
/// figure undefined (no object of that kind).
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Average precision, mean over IoU 0.50:0.05:0.95 and classes.
    pub ap: f64,
    /// Average precision at IoU 0.50.
    pub ap50: f64,
    /// Average precision at IoU 0.75.
    pub ap75: f64,
    /// As `ap`, objects below 32 x 32 pixels.
    pub ap_small: f64,
    /// As `ap`, objects from 32 x 32 to 96 x 96 pixels.
    pub ap_medium: f64,
    /// As `ap`, objects above 96 x 96 pixels.
    pub ap_large: f64,
    /// Average recall with one detection an image and class.
    pub ar1: f64,
    /// Average recall with ten detections an image and class.
    pub ar10: f64,
    /// Average recall with a hundred detections an image and class.
    pub ar100: f64,
    /// As `ar100`, objects below 32 x 32 pixels.
    pub ar_small: f64,
    /// As `ar100`, objects from 32 x 32 to 96 x 96 pixels.
    pub ar_medium: f64,
    /// As `ar100`, objects above 96 x 96 pixels.
    pub ar_large: f64,
    /// By ascending category id; all categories of the ground truth.
    pub per_category: Vec<CategoryMetrics>,
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoryMetrics {
    /// The category's id in the ground truth.
    pub id: i64,
    /// Its name there.
    pub name: String,
    /// Average precision, mean over IoU 0.50:0.05:0.95; -1 without objects.
    pub ap: f64,
    /// Average precision at IoU 0.50; -1 without objects.
    pub ap50: f64,
    /// Objects in the ground truth, crowd regions not counted.
    pub objects: usize,
}

/// One of the twelve lines: key in JSON, what it is, and its conditions as COCO prints them.
pub(crate) struct Figure {
    pub key: &'static str,
    pub recall: bool,
    pub iou: &'static str,
    pub area: &'static str,
    pub max_detections: usize,
    pub value: f64,
}

impl Metrics {
    /// The twelve in COCO's order.
    pub(crate) fn figures(&self) -> [Figure; 12] {
        const RANGE: &str = "0.50:0.95";
        let precision = |key, iou, area, value| Figure { key, recall: false, iou, area, max_detections: 100, value };
        let recall =
            |key, area, max_detections, value| Figure { key, recall: true, iou: RANGE, area, max_detections, value };
        [
            precision("AP", RANGE, "all", self.ap),
            precision("AP50", "0.50", "all", self.ap50),
            precision("AP75", "0.75", "all", self.ap75),
            precision("APs", RANGE, "small", self.ap_small),
            precision("APm", RANGE, "medium", self.ap_medium),
            precision("APl", RANGE, "large", self.ap_large),
            recall("AR1", "all", 1, self.ar1),
            recall("AR10", "all", 10, self.ar10),
            recall("AR100", "all", 100, self.ar100),
            recall("ARs", "small", 100, self.ar_small),
            recall("ARm", "medium", 100, self.ar_medium),
            recall("ARl", "large", 100, self.ar_large),
        ]
    }

    /// `{"AP": …, …, "ARl": …, "per_category": {"<id>": {"name": …, "AP": …, "AP50": …}}}`, the
    /// keys in COCO's order.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.figures().iter().map(|f| (f.key.to_owned(), json!(f.value))).collect();
        let classes: Map<String, Value> = self
            .per_category
            .iter()
            .map(|c| (c.id.to_string(), json!({"name": c.name, "AP": c.ap, "AP50": c.ap50})))
            .collect();
        object.insert("per_category".to_owned(), Value::Object(classes));
        Value::Object(object)
    }
}
