//! Annotations on their way to COCO: objects by the names of their classes, before the classes are known.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use foveal_coco::{Annotation, Category, CocoDataset, Image};

use crate::defect::{Defect, Defects, Place};
use crate::notes::{Kind, Notes};
use crate::{Converted, FormatError, OnError};

/// An image with its objects.
#[derive(Debug)]
pub(crate) struct DraftImage {
    /// Name relative to the folder of images.
    pub name: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The file that describes the objects, for messages.
    pub from: PathBuf,
    pub objects: Vec<DraftObject>,
}

/// An object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DraftObject {
    /// Index of the name of the class; see [`Draft::label`].
    pub label: u32,
    /// Left, top, right and bottom edge in pixels.
    pub corners: [f64; 4],
    pub crowd: bool,
    pub place: Place,
}

/// The classes of a data set.
#[derive(Clone, Debug)]
pub(crate) enum ClassList {
    /// All names that occur, sorted.
    Occurring,
    /// These names in this order. Objects of other classes are defects.
    Given(Vec<String>),
}

impl ClassList {
    /// The classes that the user gave, else those that the file declares, else those that occur.
    pub(crate) fn of(given: Option<&[String]>, declared: Vec<String>) -> Self {
        match given {
            Some(names) => Self::Given(names.to_vec()),
            None if declared.is_empty() => Self::Occurring,
            None => Self::Given(declared),
        }
    }
}

/// A data set whose images and objects are being collected.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub images: Vec<DraftImage>,
    pub notes: Notes,
    pub defects: Defects,
    names: Vec<String>,
    labels: HashMap<String, u32>,
}

impl Draft {
    /// The index of the name of a class.
    pub(crate) fn label(&mut self, name: &str) -> u32 {
        if let Some(label) = self.labels.get(name) {
            return *label;
        }
        let label = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.labels.insert(name.to_owned(), label);
        label
    }

    /// Ends the collection: `from` is the file or folder that was converted, `expected` what it should be, with its
    /// article.
    ///
    /// # Errors
    /// - [`FormatError::Listed`] if there are no images or no classes, or if there are defects and `on_error` is `Fail`
    /// - [`FormatError::Convert`] if a class is listed twice
    pub(crate) fn finish(
        mut self,
        from: &Path,
        expected: &str,
        classes: ClassList,
        on_error: OnError,
    ) -> Result<Converted, FormatError> {
        let classes = match classes {
            ClassList::Given(names) => names,
            ClassList::Occurring => {
                let mut names = self.names.clone();
                names.sort();
                names
            }
        };
        let mut ids: HashMap<&str, i64> = HashMap::with_capacity(classes.len());
        for (id, name) in (1..).zip(&classes) {
            if name.is_empty() {
                return Err(FormatError::convert(from, format!("class {id} has an empty name, expected a name")));
            }
            if let Some(first) = ids.insert(name, id) {
                let reason = format!("the class {name:?} is listed twice, as class {first} and {id}; expected it once");
                return Err(FormatError::convert(from, reason));
            }
        }
        let by_label: Vec<Option<i64>> = self.names.iter().map(|name| ids.get(name.as_str()).copied()).collect();
        let known = known(&classes);
        let categories =
            (1..).zip(&classes).map(|(id, name)| Category { id, name: name.clone(), supercategory: None }).collect();
        let mut dataset = CocoDataset { categories, ..CocoDataset::default() };
        let mut seen: HashMap<String, PathBuf> = HashMap::with_capacity(self.images.len());
        for image in std::mem::take(&mut self.images) {
            if let Some(first) = seen.insert(image.name.clone(), image.from.clone()) {
                let reason = format!(
                    "the image {:?} has been described before, in {}; expected each image once",
                    image.name,
                    first.display()
                );
                self.defects.add_image(Defect::of(&image.from, reason), image.objects.len());
                continue;
            }
            self.add(&mut dataset, image, &by_label, &known);
        }
        self.notes.left_out(self.defects.finish(from, on_error)?);
        if dataset.images.is_empty() || classes.is_empty() {
            let what = if dataset.images.is_empty() { "annotated images" } else { "classes" };
            return Err(FormatError::Listed {
                path: from.to_owned(),
                reason: format!("found no {what}, expected {expected}"),
                listed: self.notes.sentences(),
                advice: None,
            });
        }
        Ok(Converted { dataset, notes: self.notes.sentences(), images: None })
    }

    fn add(&mut self, dataset: &mut CocoDataset, image: DraftImage, by_label: &[Option<i64>], known: &str) {
        let id = dataset.images.len() as i64 + 1;
        let (width, height) = image.size;
        if image.objects.is_empty() {
            self.notes.add(Kind::NoObjects, || image.name.clone());
        }
        for object in &image.objects {
            let name = &self.names[object.label as usize];
            let Some(category_id) = by_label[object.label as usize] else {
                let reason = format!("found an object of class {name:?}, expected one of {known}");
                self.defects.add(Defect::within(&image.from, object.place, reason));
                continue;
            };
            let [x1, y1, x2, y2] = object.corners;
            let bbox = [x1, y1, x2 - x1, y2 - y1];
            if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
                let what = format!("{name:?} [{x1}, {y1}, {x2}, {y2}]");
                self.notes.at(Kind::NoArea, &image.from, object.place, &what);
                continue;
            }
            if object.crowd {
                self.notes.at(Kind::Crowd, &image.from, object.place, &format!("{name:?}"));
            }
            dataset.annotations.push(Annotation {
                id: dataset.annotations.len() as i64 + 1,
                image_id: id,
                category_id,
                bbox,
                area: bbox[2] * bbox[3],
                iscrowd: object.crowd,
            });
        }
        dataset.images.push(Image { id, file_name: image.name, width, height });
    }
}

/// The names of classes for a message.
fn known(classes: &[String]) -> String {
    const LISTED: usize = 20;
    let more = if classes.len() > LISTED { format!(", … ({} classes)", classes.len()) } else { String::new() };
    let listed: Vec<&str> = classes.iter().take(LISTED).map(String::as_str).collect();
    format!("{}{more}", listed.join(", "))
}
