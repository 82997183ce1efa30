//! COCO annotation files with everything that they contain, for commands that write them again.

use std::io::{self, Write};
use std::path::Path;

use foveal_base::write_atomically_with;
use serde::Serialize;

use crate::{Annotation, Category, CocoDataset, CocoError, CocoFile, Image, Members};

/// A record with the members of its JSON object that the record has no fields for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole<T> {
    /// The record.
    pub record: T,
    /// The other members, such as `segmentation` of an annotation or `license` of an image.
    pub others: Members,
}

/// The content of a COCO annotation file with all members of its records, each list in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WholeDataset {
    /// All images, including those without annotations.
    pub images: Vec<Whole<Image>>,
    /// All objects and crowd regions of all images.
    pub annotations: Vec<Whole<Annotation>>,
    /// All categories, including those without annotations.
    pub categories: Vec<Whole<Category>>,
    /// The members of the file beside the three lists, such as `info` and `licenses`.
    pub others: Members,
}

/// The members of the records of a file that have no fields, each list in the order of the records that were read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OtherMembers {
    /// Of the images, annotations and categories. The lists are empty if the members were not read.
    pub(crate) records: [Vec<Members>; 3],
    /// Of the file itself.
    pub(crate) file: Members,
}

impl CocoFile {
    /// The records of the file with all their members. Members that have no fields are there only if the file was read
    /// with [`CocoFile::read_whole`].
    pub fn into_whole(self) -> WholeDataset {
        let CocoDataset { images, annotations, categories } = self.dataset;
        let OtherMembers { records: [of_images, of_annotations, of_categories], file } =
            self.others.unwrap_or_default();
        WholeDataset {
            images: joined(images, of_images),
            annotations: joined(annotations, of_annotations),
            categories: joined(categories, of_categories),
            others: file,
        }
    }
}

fn joined<T>(records: Vec<T>, others: Vec<Members>) -> Vec<Whole<T>> {
    let mut others = others.into_iter();
    records.into_iter().map(|record| Whole { record, others: others.next().unwrap_or_default() }).collect()
}

impl WholeDataset {
    /// Writes the data set as a COCO annotation file, which pycocotools can read. The members of the file come first,
    /// then the images, annotations and categories. The file is written atomically.
    ///
    /// # Errors
    /// [`CocoError::Write`] if the file cannot be written; an existing file is then unchanged.
    pub fn write(&self, path: &Path) -> Result<(), CocoError> {
        Ok(write_atomically_with(path, |out| self.write_to(out))?)
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"{")?;
        if !self.others.is_empty() {
            writeln!(out, "{},", self.others.as_json())?;
        }
        list(out, "images", &self.images)?;
        out.write_all(b",\n")?;
        list(out, "annotations", &self.annotations)?;
        out.write_all(b",\n")?;
        list(out, "categories", &self.categories)?;
        out.write_all(b"}\n")
    }

    /// The records alone.
    pub fn records(&self) -> CocoDataset {
        fn records<T: Clone>(all: &[Whole<T>]) -> Vec<T> {
            all.iter().map(|whole| whole.record.clone()).collect()
        }
        CocoDataset {
            images: records(&self.images),
            annotations: records(&self.annotations),
            categories: records(&self.categories),
        }
    }
}

/// Writes a list with one record a line.
fn list<T: Serialize>(out: &mut dyn Write, key: &str, records: &[Whole<T>]) -> io::Result<()> {
    write!(out, "\"{key}\":[")?;
    for (index, Whole { record, others }) in records.iter().enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        let text = serde_json::to_string(record)?;
        let fields = text.strip_suffix('}').expect("a record is an object");
        out.write_all(fields.as_bytes())?;
        if !others.is_empty() {
            write!(out, ",{}", others.as_json())?;
        }
        out.write_all(b"}")?;
    }
    out.write_all(b"]")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file() -> Value {
        json!({
            "info": {"year": 2014, "nested": [1, {"a": null}]},
            "licenses": [{"id": 4, "name": "Attribution"}],
            "images": [
                {"id": 9, "file_name": "a b.jpg", "width": 40, "height": 30, "license": 4, "score": 0.5},
                {"id": 2, "file_name": "é.jpg", "width": 41, "height": 31},
            ],
            "annotations": [
                {
                    "id": 1, "image_id": 9, "category_id": 3, "bbox": [1.5, 2.0, 3.25, 4.0], "area": 6.5, "iscrowd": 0,
                    "segmentation": [[1.5, 2, 4.75, 6.0, 1e-7, 3]], "attributes": {"occluded": true}, "name": "n",
                },
                {
                    "id": 2, "image_id": 2, "category_id": 3, "bbox": [0.0, 0.0, 9.0, 9.0], "area": 81.0, "iscrowd": 1,
                    "segmentation": {"counts": "0a1\\b", "size": [30, 40]},
                },
            ],
            "categories": [{"id": 3, "name": "cat", "supercategory": "animal", "keypoints": ["nose"], "width": 7}],
        })
    }

    #[test]
    fn every_member_survives_reading_and_writing() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a.json"), dir.path().join("b.json"));
        std::fs::write(&first, file().to_string()).unwrap();
        let whole = CocoFile::read_whole(&first).unwrap();
        assert_eq!(whole.dataset, CocoFile::read(&first).unwrap().dataset);
        let whole = whole.into_whole();
        assert_eq!(whole.images[0].others.get("license"), Some(json!(4)));
        whole.write(&second).unwrap();
        let text = std::fs::read_to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), file());
        assert_eq!(CocoFile::read_whole(&second).unwrap().into_whole(), whole);
    }

    #[test]
    fn the_members_are_not_kept_unless_they_are_asked_for() {
        let text = file().to_string();
        let plain = CocoFile::from_bytes(text.as_bytes(), Path::new("a.json")).unwrap();
        assert_eq!(plain.others, None);
        let whole = plain.into_whole();
        assert_eq!((whole.images.len(), whole.annotations.len()), (2, 2));
        assert!(whole.images[0].others.is_empty() && whole.others.is_empty());
    }

    #[test]
    fn bad_records_and_lists_that_occur_twice_leave_members_with_their_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let text = r#"{"images": [{"id": 1, "x": 1}], "images": [{"id": "a", "x": 2}, {"id": 2, "x": NaN}],
            "annotations": [], "categories": []}"#;
        std::fs::write(&path, text).unwrap();
        let file = CocoFile::read_whole(&path).unwrap();
        assert_eq!(file.bad.total(), 1);
        let whole = file.into_whole();
        assert_eq!(whole.images.len(), 1);
        assert_eq!((whole.images[0].record.id, whole.images[0].others.get("x")), (2, Some(Value::Null)));
    }
}
