//! Opening a data set: from annotations and images, from annotations alone, or generated.

use std::path::Path;

use foveal_coco::{CocoFile, LabelMap};

use crate::check::{Images, classes};
use crate::dataset::Opened;
use crate::shapes::{self, Split};
use crate::{DataConfig, DataError, OnError, SetConfig, Source};

impl DataConfig {
    /// Opens and checks the training set. With `filter_empty`, images without objects are left out.
    ///
    /// # Errors
    /// - the errors of [`DataConfig::inspect_train`]
    /// - [`DataError::Unusable`] if no object can be used, or all boxes look like fractions of the image
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_train(&self) -> Result<Opened, DataError> {
        let opened = self.accept(self.inspect_train()?)?;
        Ok(self.without_empty(opened))
    }

    /// Opens and checks the validation set. If the annotation file of the training set exists, the classes are those of
    /// the training set; otherwise they are the categories of the validation set.
    ///
    /// # Errors
    /// - the errors of [`DataConfig::inspect_val`]
    /// - [`DataError::Unusable`] if the set has annotations of objects but none can be used, or all boxes look like
    ///   fractions of the image
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_val(&self) -> Result<Opened, DataError> {
        self.open_val_with(self.training_labels()?.as_ref())
    }

    /// Reads the classes of the training set from its annotation file. `None` if the file is not set or does not exist,
    /// or if the data set is generated.
    ///
    /// # Errors
    /// [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used.
    pub fn training_labels(&self) -> Result<Option<LabelMap>, DataError> {
        match (self.source, &self.train.annotations) {
            (Source::Coco, Some(path)) if path.exists() => {
                Ok(Some(classes(&CocoFile::read(path)?.dataset, path, None)?.labels))
            }
            _ => Ok(None),
        }
    }

    /// Opens and checks the validation set with the classes of a model, given by `labels`. With `None`, the classes are
    /// the categories of the validation set.
    ///
    /// # Errors
    /// - the errors of [`DataConfig::inspect_val`]
    /// - [`DataError::Unusable`] if the set has annotations of objects but none can be used, or all boxes look like
    ///   fractions of the image
    /// - [`DataError::Check`] with all defects that were found, if `on_error` is `fail`
    pub fn open_val_with(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.accept(self.inspect_val(labels)?)
    }

    /// Checks the training set. Images and boxes that cannot be used are left out and are in the report, whatever
    /// `on_error` is.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    pub fn inspect_train(&self) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        match self.source {
            Source::Shapes => Ok(shapes::open(&self.shapes, Split::Train)),
            Source::Coco => self.inspect(&self.train, KEYS_TRAIN, Split::Train, None),
        }
    }

    /// Checks the validation set with the classes of a model, given by `labels`. With `None`, the classes are the
    /// categories of the validation set. Images and boxes that cannot be used are left out and are in the report,
    /// whatever `on_error` is.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::Labels`] for a category whose id or name differs from `labels`
    pub fn inspect_val(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        match self.source {
            Source::Shapes => Ok(shapes::open(&self.shapes, Split::Val)),
            Source::Coco => self.inspect(&self.val, KEYS_VAL, Split::Val, labels),
        }
    }

    /// Checks a data set from its annotation file alone. No image file is read, and
    /// [`Dataset::load`](crate::Dataset::load) fails. Images and boxes that cannot be used, and images without width or
    /// height in the annotation file, are left out and are in the report.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    pub fn inspect_annotations(&self, path: &Path) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        self.check(CocoFile::read(path)?, path, Images::Unread, Split::Val, None)
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
        let file = CocoFile::read(path)?;
        if let Some(image) = file.dataset.images.iter().find(|image| image.width == 0 || image.height == 0) {
            return Err(DataError::NoImageSize { path: path.to_owned(), image_id: image.id });
        }
        let opened = self.check(file, path, Images::Unread, split, None)?;
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

    fn inspect(
        &self,
        set: &SetConfig,
        keys: Keys,
        split: Split,
        labels: Option<&LabelMap>,
    ) -> Result<Opened, DataError> {
        let missing = |key, expected| DataError::Missing { key, expected };
        let annotations = set.annotations.as_deref();
        let annotations = annotations.ok_or_else(|| missing(keys.annotations, "the path of a COCO annotation file"))?;
        let images =
            set.images.as_deref().ok_or_else(|| missing(keys.images, "the path of the folder with the images"))?;
        let file = CocoFile::read(annotations)?;
        if !images.is_dir() {
            return Err(DataError::NoFolder { key: keys.images, path: images.to_owned() });
        }
        self.check(file, annotations, Images::Folder(images), split, labels)
    }

    /// Accepts a checked data set if it can be used as `on_error` says.
    fn accept(&self, opened: Opened) -> Result<Opened, DataError> {
        if opened.report.is_unusable() {
            return Err(DataError::Unusable(Box::new(opened.report)));
        }
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
