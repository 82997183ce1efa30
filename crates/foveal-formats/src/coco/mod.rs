//! COCO files of other programs, such as the exports of Label Studio and Roboflow, made into plain ones; and COCO files
//! read for an export.

mod extras;
mod names;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use foveal_coco::{CocoDataset, CocoFile, Finding, List};

use crate::defect::{Defect, Defects};
use crate::images::size;
use crate::notes::{Kind, Notes};
use crate::{Converted, FormatError, OnError};
use names::Names;

/// Options of [`convert_coco`].
#[derive(Clone, Debug, Default)]
pub struct CocoOptions {
    /// The folder of the images. Without it, names of files are not compared with the files, and sizes are not read.
    pub images: Option<PathBuf>,
    /// Whether records that cannot be used are an error, or left out with a note.
    pub on_error: OnError,
}

/// Makes a plain COCO file of a COCO file that another program wrote.
///
/// With [`CocoOptions::images`], the file names become those of the files in that folder: folders, percent-encoding,
/// addresses and the prefixes of uploads (`c374a449-a.jpg`) are removed as far as the files say so. Missing sizes are
/// read from the files. The category that stands for the project in exports of Roboflow (supercategory `none`, without
/// objects, the supercategory of others) is left out. Ids are kept, except those of annotations that are used twice.
///
/// # Errors
/// - [`FormatError::Coco`] if the file cannot be read or is no COCO annotation file
/// - [`FormatError::Convert`] for a file without images or categories, or with two categories of one id or one name
/// - [`FormatError::Listed`] with the first defects if [`CocoOptions::on_error`] is `Fail` and there are records that
///   cannot be read, images that are missing, or annotations of unknown images or categories
pub fn convert_coco(file: &Path, options: &CocoOptions) -> Result<Converted, FormatError> {
    let mut read = Loaded::read(file)?;
    if let Some(folder) = &options.images {
        read.find_images(file, folder);
    }
    if let Some(extras) = extras::Extras::of(file) {
        extras.count(&read.dataset.annotations, &mut read.notes);
    }
    read.renumber();
    let Loaded { dataset, mut notes, defects } = read;
    notes.left_out(defects.finish(file, options.on_error)?);
    if dataset.images.is_empty() || dataset.categories.is_empty() {
        let what = if dataset.images.is_empty() { "images" } else { "categories" };
        return Err(FormatError::convert(file, format!("found no {what}, expected a COCO annotation file with some")));
    }
    let with_objects: HashSet<i64> = dataset.annotations.iter().map(|annotation| annotation.image_id).collect();
    for image in dataset.images.iter().filter(|image| !with_objects.contains(&image.id)) {
        notes.add(Kind::NoObjects, || image.file_name.clone());
    }
    Ok(Converted { dataset, notes: notes.sentences(), images: options.images.clone() })
}

/// A COCO file that was read, without the records that cannot be used.
pub(crate) struct Loaded {
    pub dataset: CocoDataset,
    pub notes: Notes,
    pub defects: Defects,
}

impl Loaded {
    /// Reads a COCO file. Annotations whose id was used before still have that id; [`Loaded::renumber`] changes it.
    ///
    /// # Errors
    /// [`FormatError::Coco`] if the file cannot be read, [`FormatError::Convert`] if two categories share an id or a
    /// name.
    pub(crate) fn read(path: &Path) -> Result<Self, FormatError> {
        let file = CocoFile::read(path)?;
        let mut loaded = Self { dataset: CocoDataset::default(), notes: Notes::default(), defects: Defects::default() };
        for bad in &file.bad.described {
            loaded.defects.add(Defect::at(path, bad.place.line.into(), bad.message.clone()));
        }
        for _ in file.bad.described.len()..file.bad.total() {
            loaded.defects.add(Defect::of(path, "a record cannot be read"));
        }
        let (unused_images, unused_annotations) = loaded.find_defects(path, &file);
        loaded.dataset = file.dataset;
        let mut index = 0..;
        loaded.dataset.images.retain(|_| !unused_images.contains(&index.next().unwrap_or_default()));
        let mut index = 0..;
        loaded.dataset.annotations.retain(|_| !unused_annotations.contains(&index.next().unwrap_or_default()));
        loaded.leave_out_categories();
        loaded.categories_once(path)?;
        Ok(loaded)
    }

    /// The indices of the images and annotations that cannot be used.
    fn find_defects(&mut self, path: &Path, file: &CocoFile) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let dataset = &file.dataset;
        let line = |list: List, index: usize| file.place(list, index).map_or(1, |place| u64::from(place.line));
        let (mut images, mut annotations) = (BTreeSet::new(), BTreeSet::new());
        let mut known: HashSet<i64> = HashSet::with_capacity(dataset.images.len());
        for (index, image) in dataset.images.iter().enumerate() {
            let id = image.id;
            let finding = if !known.insert(id) {
                Finding::DuplicateImage { image_id: id }
            } else if image.file_name.is_empty() {
                Finding::NoFileName { image_id: id }
            } else {
                continue;
            };
            images.insert(index);
            self.defects.add(Defect::at(path, line(List::Images, index), finding.to_string()));
        }
        let nameless: HashSet<i64> =
            dataset.images.iter().filter(|image| image.file_name.is_empty()).map(|image| image.id).collect();
        let categories: HashSet<i64> = dataset.categories.iter().map(|category| category.id).collect();
        let mut lost: HashMap<i64, usize> = HashMap::new();
        for (index, annotation) in dataset.annotations.iter().enumerate() {
            let (annotation_id, image_id, category_id) = (annotation.id, annotation.image_id, annotation.category_id);
            let bbox = annotation.bbox;
            let at = line(List::Annotations, index);
            let finding = if !known.contains(&image_id) && !file.bad.image_ids().contains(&image_id) {
                Some(Finding::UnknownImage { annotation_id, image_id })
            } else if !categories.contains(&category_id) {
                Some(Finding::UnknownCategory { annotation_id, image_id, category_id })
            } else {
                None
            };
            if let Some(finding) = finding {
                self.defects.add(Defect::at(path, at, finding.to_string()));
            } else if bbox.iter().any(|value| !value.is_finite()) {
                let what = format!("annotation {annotation_id} (image {image_id})");
                self.notes.at(Kind::NoBox, path, crate::defect::Place::Line(at), &what);
            } else if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
                let what = format!("annotation {annotation_id} (image {image_id}) {bbox:?}");
                self.notes.at(Kind::NoArea, path, crate::defect::Place::Line(at), &what);
            } else if known.contains(&image_id) && !nameless.contains(&image_id) {
                continue;
            } else {
                *lost.entry(image_id).or_default() += 1;
            }
            annotations.insert(index);
        }
        self.defects.lost(lost.into_values());
        (images, annotations)
    }

    /// Leaves out the category that stands for a project of Roboflow, and doubled ones without objects.
    fn leave_out_categories(&mut self) {
        let used: HashSet<i64> = self.dataset.annotations.iter().map(|annotation| annotation.category_id).collect();
        let groups: HashSet<String> =
            self.dataset.categories.iter().filter_map(|category| category.supercategory.clone()).collect();
        let mut listed: HashSet<(i64, String)> = HashSet::new();
        let notes = &mut self.notes;
        self.dataset.categories.retain(|category| {
            if !listed.insert((category.id, category.name.clone())) {
                return false;
            }
            let root = category.supercategory.as_deref() == Some("none") && groups.contains(&category.name);
            let root = root && !used.contains(&category.id);
            if root {
                notes.add(Kind::Root, || format!("{:?}", category.name));
            }
            !root
        });
        let with_objects: HashSet<String> = self
            .dataset
            .categories
            .iter()
            .filter(|category| used.contains(&category.id))
            .map(|category| category.name.clone())
            .collect();
        self.dataset.categories.retain(|category| {
            let doubled = !used.contains(&category.id) && with_objects.contains(&category.name);
            if doubled {
                notes.add(Kind::UnusedClass, || format!("{:?} (id {})", category.name, category.id));
            }
            !doubled
        });
    }

    fn categories_once(&self, path: &Path) -> Result<(), FormatError> {
        let (mut ids, mut names) = (HashMap::new(), HashMap::new());
        for category in &self.dataset.categories {
            let (id, name) = (category.id, &category.name);
            if let Some(first) = ids.insert(id, name) {
                let reason =
                    format!("the category id {id} is used twice, by {first:?} and {name:?}; expected other ids");
                return Err(FormatError::convert(path, reason));
            }
            if let Some(first) = names.insert(name, id) {
                let reason = format!(
                    "the category name {name:?} is used twice, by the ids {first} and {id}; expected other names"
                );
                return Err(FormatError::convert(path, reason));
            }
        }
        Ok(())
    }

    /// Gives new ids to annotations whose id was used before.
    pub(crate) fn renumber(&mut self) {
        let mut next = self.dataset.annotations.iter().map(|annotation| annotation.id).max().unwrap_or(0);
        let mut seen = HashSet::with_capacity(self.dataset.annotations.len());
        for annotation in &mut self.dataset.annotations {
            if seen.insert(annotation.id) {
                continue;
            }
            let old = annotation.id;
            next = next.saturating_add(1);
            annotation.id = next;
            seen.insert(next);
            self.notes.add(Kind::Renumbered, || format!("{old}"));
        }
    }

    /// Replaces the file names by those of the files in a folder, and reads the sizes that are missing.
    fn find_images(&mut self, file: &Path, folder: &Path) {
        let mut names = Names::new(folder);
        let mut lost: HashMap<i64, usize> = HashMap::new();
        let mut owners: HashMap<PathBuf, i64> = HashMap::new();
        for image in &mut self.dataset.images {
            let id = image.id;
            let found = names.find(&image.file_name).and_then(|(found, kind)| {
                if image.width == 0 || image.height == 0 {
                    (image.width, image.height) = size(&found.path)?;
                    self.notes.add(Kind::SizeFromImage, || found.name.clone());
                }
                Ok((found, kind))
            });
            match found {
                Ok((found, kind)) => {
                    if let Some(first) = owners.insert(found.path.clone(), id) {
                        let reason = format!("the images {first} and {id} are both the file {}", found.path.display());
                        self.defects.add(Defect::of(file, reason));
                        lost.insert(id, 0);
                        continue;
                    }
                    if let Some(kind) = kind {
                        self.notes.add(kind, || format!("{:?} is {:?}", image.file_name, found.name));
                    }
                    image.file_name = found.name;
                }
                Err(reason) => {
                    self.defects.add(Defect::of(file, format!("image {id}: {reason}")));
                    lost.insert(id, 0);
                }
            }
        }
        self.dataset.images.retain(|image| !lost.contains_key(&image.id));
        self.dataset.annotations.retain(|annotation| match lost.get_mut(&annotation.image_id) {
            Some(objects) => {
                *objects += 1;
                false
            }
            None => true,
        });
        self.defects.lost(lost.into_values());
    }
}
