//! COCO results files: a JSON list of detections.

use std::{fmt, io, path::Path};

use foveal_base::write_atomically_with;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use crate::{CocoDetection, CocoError, file};

/// The top-level list of a results file; a type of its own, so that the error for another value says what was expected.
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

/// Reads a COCO results file, gzipped or not. Numbers that [`write_results`] wrote are read back bit for bit.
///
/// # Errors
/// - [`CocoError::Read`] if the file cannot be read or unpacked.
/// - [`CocoError::Json`] with the file, line, column and image id if the text is not a JSON list, a field has another
///   type, a box is not four finite numbers, or a score is not finite.
pub fn read_results(path: &Path) -> Result<Vec<CocoDetection>, CocoError> {
    file::parse::<Results>(&file::read(path)?, path).map(|r| r.0)
}

/// Writes detections to a COCO results file, which pycocotools and `foveal score` can read. The file is written
/// atomically.
///
/// # Errors
/// - [`CocoError::NotFinite`] if a box or score is NaN or infinite; nothing is then written.
/// - [`CocoError::Write`] if the file cannot be written; an existing file is then unchanged.
pub fn write_results(path: &Path, detections: &[CocoDetection]) -> Result<(), CocoError> {
    for (index, detection) in detections.iter().enumerate() {
        if !detection.score.is_finite() || detection.bbox.iter().any(|v| !v.is_finite()) {
            let (path, image_id) = (path.to_owned(), detection.image_id);
            return Err(CocoError::NotFinite { path, index, image_id });
        }
    }
    Ok(write_atomically_with(path, |out| serde_json::to_writer(out, detections).map_err(io::Error::from))?)
}
