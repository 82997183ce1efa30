//! The metrics and their JSON.

use serde_json::{Map, Value, json};

/// COCO's twelve detection metrics, and AP and AP50 of each category. All are fractions from 0 to 1, or -1 if the
/// metric is undefined because there is no object of that kind, as in pycocotools.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Average precision (AP): the mean over the IoU thresholds 0.50, 0.55, …, 0.95 and the categories.
    pub ap: f64,
    /// Average precision at an IoU threshold of 0.50 (AP50).
    pub ap50: f64,
    /// Average precision at an IoU threshold of 0.75 (AP75).
    pub ap75: f64,
    /// Average precision (APs) of small objects, with an area below 32 x 32 pixels.
    pub ap_small: f64,
    /// Average precision (APm) of medium objects, with an area from 32 x 32 to 96 x 96 pixels.
    pub ap_medium: f64,
    /// Average precision (APl) of large objects, with an area above 96 x 96 pixels.
    pub ap_large: f64,
    /// Average recall with at most 1 detection per image and category (AR1).
    pub ar1: f64,
    /// Average recall with at most 10 detections per image and category (AR10).
    pub ar10: f64,
    /// Average recall with at most 100 detections per image and category (AR100).
    pub ar100: f64,
    /// Average recall (ARs) of small objects, with an area below 32 x 32 pixels, and at most 100 detections per image
    /// and category.
    pub ar_small: f64,
    /// Average recall (ARm) of medium objects, with an area from 32 x 32 to 96 x 96 pixels, and at most 100 detections
    /// per image and category.
    pub ar_medium: f64,
    /// Average recall (ARl) of large objects, with an area above 96 x 96 pixels, and at most 100 detections per image
    /// and category.
    pub ar_large: f64,
    /// Metrics of all categories of the ground truth, in ascending order of the category ids.
    pub per_category: Vec<CategoryMetrics>,
}

/// The metrics of one category: fractions from 0 to 1, or -1 if the category has no objects.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoryMetrics {
    /// Id of the category in the ground truth.
    pub id: i64,
    /// Name of the category in the ground truth.
    pub name: String,
    /// Average precision (AP), the mean over the IoU thresholds 0.50, 0.55, …, 0.95; -1 if the category has no objects.
    pub ap: f64,
    /// Average precision at an IoU threshold of 0.50 (AP50); -1 if the category has no objects.
    pub ap50: f64,
    /// Number of objects of the category in the ground truth, without crowd regions.
    pub objects: usize,
}

/// One of the twelve metrics: its key in JSON, whether it is a recall, its conditions as COCO prints them, and its
/// value.
pub(crate) struct MetricLine {
    /// Key in JSON, such as `AP50`.
    pub key: &'static str,
    /// Whether the metric is an average recall; otherwise it is an average precision.
    pub recall: bool,
    /// IoU thresholds, such as `0.50:0.95`.
    pub iou: &'static str,
    /// Size range of the objects, such as `small`.
    pub area: &'static str,
    /// Largest number of detections per image and category.
    pub max_detections: usize,
    /// Value from 0 to 1, or -1 if it is undefined.
    pub value: f64,
}

impl Metrics {
    /// Whether the metrics over all sizes are defined: the ground truth has at least one object that is no crowd
    /// region.
    pub fn is_defined(&self) -> bool {
        self.ap >= 0.0
    }

    /// The twelve metrics in COCO's order.
    pub(crate) fn lines(&self) -> [MetricLine; 12] {
        const RANGE: &str = "0.50:0.95";
        let precision =
            |key, iou, area, value| MetricLine { key, recall: false, iou, area, max_detections: 100, value };
        let recall = |key, area, max_detections, value| MetricLine {
            key,
            recall: true,
            iou: RANGE,
            area,
            max_detections,
            value,
        };
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

    /// The metrics as a JSON object with the keys in COCO's order:
    /// `{"AP": …, …, "ARl": …, "per_category": {"<id>": {"name": …, "AP": …, "AP50": …}}}`.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> = self.lines().iter().map(|f| (f.key.to_owned(), json!(f.value))).collect();
        let classes: Map<String, Value> = self
            .per_category
            .iter()
            .map(|c| (c.id.to_string(), json!({"name": c.name, "AP": c.ap, "AP50": c.ap50})))
            .collect();
        object.insert("per_category".to_owned(), Value::Object(classes));
        Value::Object(object)
    }
}
