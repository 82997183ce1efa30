//! Data sets as they are read: records whose ids leave no doubt about what belongs together.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use foveal_coco::{CocoFile, Finding, WholeDataset};

use crate::SetsError;

/// A data set that was read from a file. The ids of its images, annotations and categories are unique, and the image
/// and the category of each annotation are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct SetFile {
    /// The path of the file, for messages.
    pub path: PathBuf,
    /// The content of the file.
    pub dataset: WholeDataset,
    /// Records that were left out because they cannot be used, with the first of them; empty if there are none.
    pub warnings: Vec<String>,
}

impl SetFile {
    /// Reads a COCO annotation file with everything that it contains.
    ///
    /// Records without a meaning, ids that two records share, and annotations whose image or category is not in the
    /// file are an error, or are left out with a warning if `skip` is true. Missing names and sizes of images and
    /// missing or empty boxes are no error: they are copied as they are.
    ///
    /// # Errors
    /// [`SetsError::Coco`] if the file cannot be read or is not a COCO file; [`SetsError::Record`] with the first
    /// record that cannot be used if `skip` is false.
    pub fn open(path: &Path, skip: bool) -> Result<Self, SetsError> {
        let file = CocoFile::read_whole(path)?;
        let bad = file.bad.described.iter().map(|bad| (bad.message.clone(), bad.place));
        let ambiguous = file.findings().into_iter().filter(|(finding, _)| is_ambiguous(finding));
        let first = bad.chain(ambiguous.clone().map(|(finding, place)| (finding.to_string(), place))).next();
        let count = file.bad.total() + ambiguous.count();
        let mut warnings = Vec::new();
        if let Some((message, place)) = first {
            if !skip {
                return Err(SetsError::Record { path: path.to_owned(), place, message, count });
            }
            let records = if count == 1 { "record was" } else { "records were" };
            warnings.push(format!("{}: {count} {records} left out, the first: {place}: {message}", path.display()));
        }
        let mut dataset = file.into_whole();
        leave_out(&mut dataset);
        Ok(Self { path: path.to_owned(), dataset, warnings })
    }
}

/// Whether a defect leaves in doubt what belongs together.
fn is_ambiguous(finding: &Finding) -> bool {
    matches!(
        finding,
        Finding::DuplicateCategory { .. }
            | Finding::DuplicateImage { .. }
            | Finding::DuplicateAnnotation { .. }
            | Finding::UnknownImage { .. }
            | Finding::UnknownCategory { .. }
    )
}

/// Leaves out records whose id an earlier record has, and annotations whose image or category is not there. A category
/// that is listed twice is no defect, but it is kept once.
fn leave_out(dataset: &mut WholeDataset) {
    let (mut images, mut categories, mut annotations) = (HashSet::new(), HashSet::new(), HashSet::new());
    dataset.images.retain(|image| images.insert(image.record.id));
    dataset.categories.retain(|category| categories.insert(category.record.id));
    dataset.annotations.retain(|annotation| {
        let record = &annotation.record;
        images.contains(&record.image_id) && categories.contains(&record.category_id) && annotations.insert(record.id)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_records_are_an_error_or_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let text = r#"{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}, {"id": 2}],
            "annotations": [
              {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1]},
              {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 2, 2]},
              {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 1, 1]},
              {"id": 3, "image_id": 1, "category_id": 6, "bbox": [0, 0, 1, 1]},
              {"id": 4, "image_id": 2, "category_id": 5},
              {"id": "x", "image_id": 1, "category_id": 5}],
            "categories": [{"id": 5, "name": "c"}, {"id": 5, "name": "c"}]}"#;
        std::fs::write(&path, text).unwrap();
        let message = SetFile::open(&path, false).unwrap_err().to_string();
        for word in ["a.json", "line 8, annotations[5]", "\"x\"", "4 more records", "--on-error skip"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        let SetFile { dataset, warnings, .. } = SetFile::open(&path, true).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("5 records"), "{warnings:?}");
        let ids: Vec<i64> = dataset.annotations.iter().map(|a| a.record.id).collect();
        assert_eq!((dataset.images.len(), dataset.categories.len(), ids), (2, 1, vec![1, 4]));
        assert!(dataset.annotations[1].record.bbox[0].is_nan());
    }
}
