//! COCO results files: a JSON list of detections.

use std::{io, path::Path, rc::Rc};

use foveal_base::write_atomically_with;
use serde::de::{DeserializeSeed, Deserializer};

use crate::{
    BadRecord, CocoDetection, CocoError, List, Place,
    coco_file::bad_record,
    json::{self, Progress},
    meaning,
    raw::{ListSeed, Raw},
    source,
};

/// The detections of a results file, its first bad record, and the number of bad records.
#[derive(Default)]
struct Results {
    detections: Vec<CocoDetection>,
    first: Option<BadRecord>,
    bad: usize,
}

impl Results {
    fn add(&mut self, raw: Raw, place: Place, column: u64) {
        let [id, image_id] = meaning::ids(&raw);
        match meaning::detection(raw) {
            Ok(detection) => self.detections.push(detection),
            Err(message) => {
                self.bad += 1;
                self.first.get_or_insert(BadRecord { place, column, id, image_id, message });
            }
        }
    }
}

struct ResultsSeed(Rc<Progress>);

impl<'de> DeserializeSeed<'de> for ResultsSeed {
    type Value = Results;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Results, D::Error> {
        let mut results = Results::default();
        let take = |raw, place, column| results.add(raw, place, column);
        ListSeed { list: List::Detections, progress: &self.0, keep: false, take }.deserialize(deserializer)?;
        Ok(results)
    }
}

/// Reads a COCO results file, gzipped or not, in UTF-8 or UTF-16. Numbers that
/// [`write_results`] wrote are read back bit for bit.
///
/// # Errors
/// - [`CocoError::Read`] if the path is not a regular file, or cannot be read or unpacked.
/// - [`CocoError::Json`] with the file, line, index and image id if the text is not a JSON list, a field has another
///   type, a box is not four finite numbers, or a score is not finite.
pub fn read_results(path: &Path) -> Result<Vec<CocoDetection>, CocoError> {
    parse(source::open(path)?, path)
}

/// Parses the content of a COCO results file, gzipped or not. `path` is only used in error messages.
///
/// # Errors
/// The errors of [`read_results`].
pub fn results_from_bytes(bytes: &[u8], path: &Path) -> Result<Vec<CocoDetection>, CocoError> {
    parse(source::from_bytes(bytes, path)?, path)
}

fn parse<'a>(source: Box<dyn io::Read + 'a>, path: &Path) -> Result<Vec<CocoDetection>, CocoError> {
    let results = json::parse(source, path, ResultsSeed)?;
    match results.first {
        None => Ok(results.detections),
        Some(first) => Err(bad_record(&first, results.bad, path)),
    }
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
