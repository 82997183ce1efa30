//! What follows a finished epoch and its evaluation: pictures of detections, and the report with the log lines.

use foveal_coco::{CocoDetection, xywh_to_bbox};
use serde::Serialize;
use serde_json::{Value, json};

use super::Trainer;
use crate::run::{DrawnDetection, EpochRecord, Evaluation, EvaluationRecord, Picture};

/// Lowest score of the detections that are drawn.
const DRAWN_SCORE: f64 = 0.3;

/// The lines of `log.jsonl` about an epoch, until it is reported.
#[derive(Debug, Default)]
pub(super) struct EpochLines {
    epoch: Option<Value>,
    evaluation: Option<Value>,
    best: bool,
}

impl EpochLines {
    pub(super) fn epoch(&mut self, record: &EpochRecord) {
        self.epoch = Some(json_of(record));
    }

    pub(super) fn evaluation(&mut self, record: &EvaluationRecord, best: bool) {
        (self.evaluation, self.best) = (Some(json_of(record)), best);
    }
}

fn json_of(record: &impl Serialize) -> Value {
    serde_json::to_value(record).expect("plain data is JSON")
}

impl Trainer<'_> {
    /// Reports the epoch that has just been trained, evaluated or both.
    pub(super) fn finish_epoch(&mut self) {
        let EpochLines { epoch, evaluation, best } = std::mem::take(&mut self.lines);
        if epoch.is_some() || evaluation.is_some() {
            let run = self.run.root().display().to_string();
            self.progress.epoch_finished(&json!({"run": run, "epoch": epoch, "evaluation": evaluation, "best": best}));
        }
    }

    /// Adds the scores of an evaluation's detections to the event file, and pictures of those in the first images of
    /// the validation set (`train.log_images`).
    pub(super) fn log_detections(&mut self, evaluation: &Evaluation) {
        if !self.log.has_events() {
            return;
        }
        let pictures = self.pictures(&evaluation.detections);
        let scores = evaluation.detections.iter().map(|detection| detection.score);
        self.log.detections(self.session.meta.step, scores, pictures);
    }

    /// Pictures of the detections in the first images of the validation set that have objects, or in the first images
    /// if none has. An image that cannot be loaded was reported by the evaluation and is left out.
    fn pictures(&mut self, detections: &[CocoDetection]) -> Vec<Picture> {
        let set = &self.sets.val;
        let some = set.records().iter().any(|record| !record.objects.is_empty());
        let shown = (0..set.len()).filter(|index| !some || !set.record(*index).objects.is_empty());
        let mut pictures = Vec::new();
        for index in shown.take(self.config.train.log_images) {
            let Ok(image) = set.load(index) else { continue };
            let id = set.record(index).image_id;
            let found = detections.iter().filter(|found| found.image_id == id && found.score >= DRAWN_SCORE);
            let categories = set.label_map().categories();
            let drawn = found.filter_map(|found| {
                let class = categories.iter().position(|category| category.id == found.category_id)?;
                let name = categories[class].name.clone();
                let (bbox, class) = (xywh_to_bbox(&found.bbox), class as u32);
                Some(DrawnDetection { bbox, class, name, score: found.score })
            });
            let drawn: Vec<DrawnDetection> = drawn.collect();
            pictures.extend(self.progress.draw(&image, &drawn));
        }
        pictures
    }
}
