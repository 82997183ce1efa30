//! The annotations and detections that the checks work on, and the test of readings.

use std::collections::HashSet;

use foveal_coco::{CocoDataset, CocoDetection};

use super::measured::average_precision;
use super::reading::Reading;
use super::{Check, TESTED};
use crate::EvalError;
use crate::image_boxes::{Best, Class, FITS, images, percent, share_found};

/// Number of images that readings are tested on.
const SAMPLE: usize = 500;
/// Fraction of the objects that must be found under a reading.
const ENOUGH: f64 = 0.12;
/// Smallest difference between the fractions of objects found with and without a reading.
const GAIN: f64 = 0.1;
/// Smallest ratio between these fractions.
const TIMES: f64 = 1.3;
/// Smallest ratio between the AP50 with and without a reading.
const AP_TIMES: f64 = 1.15;

/// Annotations and detections, with a sample of images on which readings are tested.
pub(super) struct Context {
    pub(super) truth: CocoDataset,
    /// All detections, also those on images that the annotations do not list.
    pub(super) detections: Vec<CocoDetection>,
    /// Images with objects, at most [`SAMPLE`], and their annotations.
    pub(super) sample: CocoDataset,
    /// The detections on the images of the sample.
    pub(super) sampled: Vec<CocoDetection>,
    /// The fraction of the objects of the sample that are found.
    pub(super) found: f64,
    /// AP50 of all detections.
    pub(super) ap50: f64,
    /// What has been corrected, as the start of a sentence.
    pub(super) corrected: &'static str,
}

impl Context {
    pub(super) fn new(truth: CocoDataset, detections: Vec<CocoDetection>) -> Result<Self, EvalError> {
        let with_objects: HashSet<i64> = truth.annotations.iter().filter(|a| !a.iscrowd).map(|a| a.image_id).collect();
        let count = truth.images.iter().filter(|image| with_objects.contains(&image.id)).count();
        let every = count.div_ceil(SAMPLE).max(1);
        let chosen: HashSet<i64> = truth
            .images
            .iter()
            .filter(|image| with_objects.contains(&image.id))
            .step_by(every)
            .map(|image| image.id)
            .collect();
        let sample = CocoDataset {
            images: truth.images.iter().filter(|image| chosen.contains(&image.id)).cloned().collect(),
            annotations: truth.annotations.iter().filter(|a| chosen.contains(&a.image_id)).cloned().collect(),
            categories: truth.categories.clone(),
        };
        let sampled: Vec<CocoDetection> = detections.iter().filter(|d| chosen.contains(&d.image_id)).copied().collect();
        let found = found(&sample, &sampled, Class::Same);
        let ap50 = average_precision(&truth, &detections)?;
        Ok(Self { truth, detections, sample, sampled, found, ap50, corrected: "" })
    }

    /// The start of a sentence about the fraction of the objects that are found.
    pub(super) fn start(&self) -> String {
        format!("{}{} of the objects are found as the detections are", self.corrected, percent(self.found))
    }

    /// Whether so few objects are found that a reading could find many more.
    pub(super) fn can_gain(&self) -> bool {
        self.found + GAIN <= 1.0 && self.found * TIMES <= 1.0
    }

    /// Whether a fraction of objects found is enough to be no chance.
    pub(super) fn is_gain(&self, found: f64) -> bool {
        found >= ENOUGH && found >= self.found + GAIN && found >= TIMES * self.found
    }

    /// The fraction of the objects of the sample that are found under a reading. A reading of the image ids uses all
    /// detections.
    pub(super) fn test(&self, reading: &Reading, class: Class) -> f64 {
        let detections = if reading.images.is_some() { &self.detections } else { &self.sampled };
        let (truth, detections) = reading.apply(&self.sample, detections);
        found(truth.as_ref().unwrap_or(&self.sample), &detections, class)
    }

    /// The reading under which the most objects are found, and the fraction found. Of nearly equal ones the first.
    pub(super) fn best(&self, readings: Vec<Reading>, class: Class) -> Option<(f64, Reading)> {
        const EQUAL: f64 = 0.02;
        let mut best: Option<(f64, Reading)> = None;
        for reading in readings {
            let found = self.test(&reading, class);
            if best.as_ref().is_none_or(|(most, _)| found > most + EQUAL) {
                best = Some((found, reading));
            }
        }
        best
    }

    /// AP50 of all detections under a reading.
    ///
    /// # Errors
    /// If hotcoco reports an error.
    pub(super) fn ap50_under(&self, reading: &Reading) -> Result<f64, EvalError> {
        let (truth, detections) = reading.apply(&self.truth, &self.detections);
        average_precision(truth.as_ref().unwrap_or(&self.truth), &detections)
    }

    /// The check of a reading under which `found` of the objects are found. If AP50 is higher under it too, the checks
    /// that follow work under it.
    ///
    /// # Errors
    /// If hotcoco reports an error.
    pub(super) fn accept(
        &mut self,
        cause: &'static str,
        found: f64,
        reading: &Reading,
        advice: &'static str,
        corrected: &'static str,
    ) -> Result<Check, EvalError> {
        let (start, before) = (self.start(), self.ap50);
        let ap50 = self.ap50_under(reading)?;
        let measured = format!("{start}. If {}, {} are", reading.condition, percent(found));
        if ap50 <= 0.0 || ap50 < AP_TIMES * before {
            return Ok(Check::nothing(cause, format!("{measured}, but AP50 is {ap50:.3} then")));
        }
        self.correct(reading, corrected)?;
        Ok(Check::found(cause, TESTED * found, measured, advice).with_ap50(Some(ap50)))
    }

    /// Makes the checks that follow work under a reading.
    ///
    /// # Errors
    /// If hotcoco reports an error.
    pub(super) fn correct(&mut self, reading: &Reading, corrected: &'static str) -> Result<(), EvalError> {
        let (truth, detections) = reading.apply(&self.truth, &self.detections);
        let truth = truth.unwrap_or_else(|| std::mem::take(&mut self.truth));
        *self = Self { corrected, ..Self::new(truth, detections)? };
        Ok(())
    }

    /// The check of readings of which the best finds `found` of the objects, which is not enough.
    pub(super) fn nothing(&self, cause: &'static str, best: Option<&(f64, Reading)>) -> Check {
        let measured = match best {
            Some((found, reading)) => {
                format!("{}. If {}, {} are", self.start(), reading.condition, percent(*found))
            }
            None => format!("{}, and no reading of this kind is possible", self.start()),
        };
        Check::nothing(cause, measured)
    }
}

/// The fraction of the objects that are found by the best detections.
pub(super) fn found(truth: &CocoDataset, detections: &[CocoDetection], class: Class) -> f64 {
    share_found(&images(truth, detections), Best::TwoAnObject, FITS, class)
}
