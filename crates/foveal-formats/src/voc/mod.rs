//! Import of Pascal VOC annotations.

mod files;
mod notes;
mod xml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use foveal_coco::{Annotation, Category, CocoDataset, Image};
use foveal_image::oriented_size;

use crate::defect::{Defect, Defects};
use crate::{Converted, FormatError, OnError};
use files::{Files, Source};
use notes::Notes;
use xml::{VocFile, VocObject};

/// What becomes of objects that are marked `difficult`. Pascal VOC counts them neither as objects nor as background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Difficult {
    /// They become crowd regions (`iscrowd` is 1), which COCO's evaluation and foveal's training count neither as
    /// objects nor as background. This is the default.
    #[default]
    Crowd,
    /// They become ordinary objects.
    Object,
    /// They are left out, so that they are background.
    Drop,
}

/// Options of [`convert_voc`]: what of a Pascal VOC folder is converted, and how.
#[derive(Clone, Debug, Default)]
pub struct VocOptions {
    /// Name of a split. Only the images listed in `ImageSets/Main/<split>.txt` are converted. `None` converts all files
    /// of `Annotations`.
    pub split: Option<String>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes all names in `Annotations`,
    /// sorted.
    pub classes: Option<Vec<String>>,
    /// What becomes of objects that are marked `difficult`.
    pub difficult: Difficult,
    /// Whether files and objects that cannot be read are an error, or left out with a note.
    pub on_error: OnError,
}

/// Converts a Pascal VOC folder (`Annotations/*.xml`, `ImageSets/Main/*.txt`, `JPEGImages/`) to COCO.
///
/// The image of an annotation file is the one with the same name: `Annotations/7.xml` belongs to `JPEGImages/7.jpg`.
/// The `<filename>` in the file counts only if there is no such image, or if several differ in their extensions.
///
/// Boxes become `[xmin, ymin, xmax - xmin, ymax - ymin]` in pixels. Boxes without area are left out. Objects that are
/// marked difficult become what [`VocOptions::difficult`] says. COCO has no fields for `truncated`, `occluded`, `pose`
/// and `part`, which are left out. [`Converted::notes`] gives the counts. The size of an image comes from its XML file,
/// or from the image file if the XML file has none. File names are relative to `JPEGImages`.
///
/// # Errors
/// - [`FormatError::Io`] for a folder or list that cannot be read
/// - [`FormatError::Convert`] for a folder without images or classes, and for an ambiguous name
/// - [`FormatError::Listed`] with the first defects if [`VocOptions::on_error`] is `fail` and there are files or
///   objects that cannot be read, images that are missing, or classes that are not in [`VocOptions::classes`]
pub fn convert_voc(folder: &Path, options: &VocOptions) -> Result<Converted, FormatError> {
    let mut files = Files::new(folder);
    let mut notes = Notes::default();
    let stems = match &options.split {
        Some(split) => files.split(split, &mut notes)?,
        None => files.all()?,
    };
    let classes = match &options.classes {
        Some(classes) => classes.clone(),
        None => all_classes(&mut files)?,
    };
    if stems.is_empty() || classes.is_empty() {
        let what = if stems.is_empty() { "annotated images" } else { "classes" };
        return Err(FormatError::Convert {
            path: folder.to_owned(),
            reason: format!("found no {what}, expected a Pascal VOC folder"),
        });
    }
    let mut converter = Converter {
        files,
        notes,
        difficult: options.difficult,
        dataset: CocoDataset::default(),
        ids: (1..).zip(&classes).map(|(id, name)| (name.clone(), id)).collect(),
        owners: BTreeMap::new(),
        defects: Defects::default(),
    };
    let categories = (1..).zip(&classes).map(|(id, name)| Category { id, name: name.clone(), supercategory: None });
    converter.dataset.categories = categories.collect();
    for stem in stems {
        converter.add(&stem)?;
    }
    converter.finish(folder, options.on_error)
}

/// The names of all classes in the annotation files, sorted. Files that cannot be read have none.
fn all_classes(files: &mut Files) -> Result<Vec<String>, FormatError> {
    let mut names = BTreeSet::new();
    for stem in files.all()? {
        if let Ok(file) = files.annotation(&stem).and_then(|path| xml::read(&path)) {
            names.extend(file.objects.into_iter().filter_map(|object| Some(object.ok()?.name)));
        }
    }
    Ok(names.into_iter().collect())
}

/// A conversion that goes on.
struct Converter {
    files: Files,
    notes: Notes,
    difficult: Difficult,
    dataset: CocoDataset,
    /// Category ids by class name.
    ids: BTreeMap<String, i64>,
    /// The annotation file of each image that was converted.
    owners: BTreeMap<PathBuf, PathBuf>,
    defects: Defects,
}

impl Converter {
    /// Converts the annotation file of one image. What cannot be converted becomes a defect.
    fn add(&mut self, stem: &str) -> Result<(), FormatError> {
        let result = self.files.annotation(stem).and_then(|path| Ok((xml::read(&path)?, path)));
        let (voc, path) = match result {
            Ok(read) => read,
            Err(defect) => {
                self.defects.add(defect);
                return Ok(());
            }
        };
        let image = match self.files.image(stem, &path, voc.file_name.as_deref())? {
            Ok(image) => image,
            Err(defect) => {
                self.defects.add_image(defect, voc.objects.len());
                return Ok(());
            }
        };
        if let Some(first) = self.owners.insert(image.path.clone(), path.clone()) {
            return Err(FormatError::Convert {
                path: image.path,
                reason: format!(
                    "{} and {} both belong to this image, expected one annotation file for each image",
                    first.display(),
                    path.display()
                ),
            });
        }
        match &image.source {
            Source::Stem => {}
            Source::Against(inside) => self.notes.other_name(&path, inside, &image.name),
            Source::FileName => self.notes.by_file_name(&path, &image.name),
        }
        let size = match voc.size {
            Some(size) => Ok(size),
            None => oriented_size(&image.path),
        };
        let (width, height) = match size {
            Ok(size) => size,
            Err(error) => {
                self.defects.add_image(Defect::of(&path, error.to_string()), voc.objects.len());
                return Ok(());
            }
        };
        let id = self.dataset.images.len() as i64 + 1;
        self.dataset.images.push(Image { id, file_name: image.name, width, height });
        self.add_objects(id, &path, voc);
        Ok(())
    }

    fn add_objects(&mut self, image_id: i64, path: &Path, voc: VocFile) {
        for object in voc.objects {
            let object = match object {
                Ok(object) => object,
                Err(defect) => {
                    self.defects.add(defect);
                    continue;
                }
            };
            let Some(&category_id) = self.ids.get(&object.name) else {
                let known: Vec<&str> = self.dataset.categories.iter().map(|c| c.name.as_str()).collect();
                let reason =
                    format!("found an object of class {:?}, expected one of {}", object.name, known.join(", "));
                self.defects.add(Defect::at(path, object.line.into(), reason));
                continue;
            };
            let VocObject { corners: [x1, y1, x2, y2], .. } = object;
            let bbox = [x1, y1, x2 - x1, y2 - y1];
            if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
                self.notes.no_area(path, &object);
                continue;
            }
            self.notes.flags(path, &object);
            if object.difficult && self.difficult == Difficult::Drop {
                continue;
            }
            self.dataset.annotations.push(Annotation {
                id: self.dataset.annotations.len() as i64 + 1,
                image_id,
                category_id,
                bbox,
                area: bbox[2] * bbox[3],
                iscrowd: object.difficult && self.difficult == Difficult::Crowd,
            });
        }
    }

    fn finish(mut self, folder: &Path, on_error: OnError) -> Result<Converted, FormatError> {
        self.notes.left_out(self.defects.finish(folder, on_error)?);
        Ok(Converted {
            dataset: self.dataset,
            notes: self.notes.sentences(self.difficult),
            images: Some(folder.join("JPEGImages")),
        })
    }
}
