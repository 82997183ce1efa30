//! COCO results files: one list of detections.

use std::{fmt, io, path::Path};

use foveal_base::write_atomically_with;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use crate::{CocoDetection, CocoError, file};

/// A list, so that another top level gets an error that says what was expected.
struct Results(Vec<CocoDetection>);

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ResultsVisitor)
    }
}

struct ResultsVisitor;

impl<'de> Visitor<'de> for ResultsVisitor {
    type Value = Results;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of detections (a COCO results file)")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Results, A::Error> {
        let mut detections = Vec::new();
        while let Some(detection) = seq.next_element()? {
            detections.push(detection);
        }
        Ok(Results(detections))
    }
}

/// Reads a results file, gzipped or not; its numbers come through bit for bit.
///
/// # Errors
/// [`CocoError`] naming the file, the line and the detection's image: unreadable, no JSON list, a
/// field of another type, a box that has not four finite numbers, a score that is not finite.
pub fn read_results(path: &Path) -> Result<Vec<CocoDetection>, CocoError> {
    file::parse::<Results>(&file::read(path)?, path).map(|r| r.0)
}

/// Writes a results file that pycocotools and `foveal score` read; atomically.
///
/// # Errors
/// [`CocoError::NotFinite`] for a number that JSON cannot hold, before anything is written;
/// [`CocoError::Write`].
pub fn write_results(path: &Path, detections: &[CocoDetection]) -> Result<(), CocoError> {
    for (index, detection) in detections.iter().enumerate() {
        if !detection.score.is_finite() || detection.bbox.iter().any(|v| !v.is_finite()) {
            let (path, image_id) = (path.to_owned(), detection.image_id);
            return Err(CocoError::NotFinite { path, index, image_id });
        }
    }
    Ok(write_atomically_with(path, |out| serde_json::to_writer(out, detections).map_err(io::Error::from))?)
}
