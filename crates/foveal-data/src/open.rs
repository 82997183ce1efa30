//! Opening a data set: from annotations and images, from annotations alone, or generated.

use std::path::Path;

use foveal_coco::{CocoDataset, LabelMap};

use crate::check::{Images, label_map};
use crate::dataset::Opened;
use crate::shapes::{self, Split};
use crate::{DataConfig, DataError, OnError, SetConfig, Source};

impl DataConfig {
    /// Opens and checks the training set. With `filter_empty`, images without objects are left out.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_train(&self) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        let opened = match self.source {
            Source::Shapes => shapes::open(&self.shapes, Split::Train),
            Source::Coco => self.open_coco(&self.train, KEYS_TRAIN, None)?,
        };
        Ok(self.without_empty(opened))
    }

    /// Opens and checks the validation set. If the annotation file of the training set exists, the classes are those of
    /// the training set; otherwise they are the categories of the validation set.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::Labels`] for a category whose id or name differs from the training set
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_val(&self) -> Result<Opened, DataError> {
        let labels = match (self.source, &self.train.annotations) {
            (Source::Coco, Some(path)) if path.exists() => Some(label_map(&CocoDataset::read(path)?.categories, path)?),
            _ => None,
        };
        self.open_val_with(labels.as_ref())
    }

    /// Opens and checks the validation set with the classes of a model, given by `labels`. With `None`, the classes are
    /// the categories of the validation set.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::Labels`] for a category whose id or name differs from `labels`
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_val_with(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        match self.source {
            Source::Shapes => Ok(shapes::open(&self.shapes, Split::Val)),
            Source::Coco => self.open_coco(&self.val, KEYS_VAL, labels),
        }
    }

    /// Opens a data set from its annotation file alone, to count its images, objects and anchors. No image file is
    /// read, and [`Dataset::load`](crate::Dataset::load) fails. Images and boxes that cannot be used are left out,
    /// whatever `on_error` is. With [`Split::Train`] and `filter_empty`, images without objects are left out too.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::NoImageSize`] for an image without width or height in the annotation file
    pub fn open_annotations(&self, path: &Path, split: Split) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        let coco = CocoDataset::read(path)?;
        if let Some(image) = coco.images.iter().find(|image| image.width == 0 || image.height == 0) {
            return Err(DataError::NoImageSize { path: path.to_owned(), image_id: image.id });
        }
        let opened = self.check(coco, path, Images::Unread, None)?;
        Ok(if split == Split::Train { self.without_empty(opened) } else { opened })
    }

    /// Removes the images without objects from a training set if `filter_empty` is set.
    fn without_empty(&self, mut opened: Opened) -> Opened {
        if self.filter_empty {
            let data = &opened.dataset;
            let kept: Vec<usize> = (0..data.len()).filter(|&i| !data.record(i).objects.is_empty()).collect();
            opened.dataset = data.select(&kept);
        }
        opened
    }

    fn open_coco(&self, set: &SetConfig, keys: Keys, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        let missing = |key, expected| DataError::Missing { key, expected };
        let annotations = set.annotations.as_deref();
        let annotations = annotations.ok_or_else(|| missing(keys.annotations, "the path of a COCO annotation file"))?;
        let images =
            set.images.as_deref().ok_or_else(|| missing(keys.images, "the path of the folder with the images"))?;
        let coco = CocoDataset::read(annotations)?;
        if !images.is_dir() {
            return Err(DataError::NoFolder { key: keys.images, path: images.to_owned() });
        }
        let opened = self.check(coco, annotations, Images::Folder(images), labels)?;
        if self.on_error == OnError::Fail && opened.report.errors() > 0 {
            return Err(DataError::Check(Box::new(opened.report)));
        }
        Ok(opened)
    }
}

/// The configuration keys of a data set, for error messages.
#[derive(Clone, Copy)]
struct Keys {
    annotations: &'static str,
    images: &'static str,
}

const KEYS_TRAIN: Keys = Keys { annotations: "data.train.annotations", images: "data.train.images" };
const KEYS_VAL: Keys = Keys { annotations: "data.val.annotations", images: "data.val.images" };
