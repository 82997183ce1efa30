//! Opening a data set: from annotations and images, from annotations alone, or generated.

use std::path::Path;

use foveal_coco::{CocoFile, LabelMap};

use crate::check::{Images, classes};
use crate::dataset::Opened;
use crate::sets::{Reading, TrainSet, join_sets, require_sizes};
use crate::shapes::{self, Split};
use crate::{DataConfig, DataError, OnError, Source};

impl DataConfig {
    /// Opens and checks the training set. With `filter_empty`, images without objects are left out, except those of
    /// `backgrounds`.
    ///
    /// # Errors
    /// - the errors of [`DataConfig::inspect_train`]
    /// - [`DataError::Unusable`] if no object of a set can be used, or all its boxes look like fractions of the image
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

    /// Reads the classes of the training set from its annotation files. `None` if `data.train` is not set or does not
    /// exist, or if the data set is generated.
    ///
    /// # Errors
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used.
    /// - [`DataError::ClassName`], [`DataError::UnknownClass`] or [`DataError::NoClasses`] if the classes of several
    ///   files or `data.classes` do not fit.
    pub fn training_labels(&self) -> Result<Option<LabelMap>, DataError> {
        match (self.source, &self.train.annotations) {
            (Source::Coco, Some(path)) if path.exists() && self.maps_classes() => Ok(Some(self.mapped_labels()?)),
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
    /// `on_error` is. The images of several sets follow each other: `train`, `more_train`, `backgrounds`.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::ClassName`], [`DataError::UnknownClass`] or [`DataError::NoClasses`] if the classes of several
    ///   files or `data.classes` do not fit
    /// - [`DataError::NoBackgrounds`] or [`DataError::Io`] for a folder of `backgrounds` that cannot be used
    pub fn inspect_train(&self) -> Result<Opened, DataError> {
        Ok(join_sets(self.inspect_train_sets()?))
    }

    /// Checks each of the sets that the training set is made of, with the classes of the whole training set. Their
    /// image ids are those of their files.
    ///
    /// # Errors
    /// The errors of [`DataConfig::inspect_train`].
    pub fn inspect_train_sets(&self) -> Result<Vec<TrainSet>, DataError> {
        self.train_sets(Reading::Headers)
    }

    /// Checks the validation set with the classes of a model, given by `labels`. With `None`, the classes are the
    /// categories of the validation set. Images and boxes that cannot be used are left out and are in the report,
    /// whatever `on_error` is.
    ///
    /// # Errors
    /// - [`DataError::Setting`] for a value outside its range
    /// - [`DataError::Missing`] or [`DataError::NoFolder`] for a path that is not set or is not a folder
    /// - [`DataError::Coco`] or [`DataError::Categories`] for an annotation file that cannot be used
    /// - [`DataError::Labels`] for a category whose id or name differs from `labels`, or with several training sets or
    ///   `classes` [`DataError::ClassName`] for one whose name is none of `labels`
    pub fn inspect_val(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        match self.source {
            Source::Shapes => Ok(shapes::open(&self.shapes, Split::Val)),
            Source::Coco => self.check_val(labels),
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
        self.inspect_annotations_with(path, None)
    }

    /// Checks a data set from its annotation file alone, as [`DataConfig::inspect_annotations`], with the classes of a
    /// model.
    ///
    /// # Errors
    /// - the errors of [`DataConfig::inspect_annotations`]
    /// - [`DataError::Labels`] or [`DataError::ClassName`] for a category that is none of `labels`
    pub fn inspect_annotations_with(&self, path: &Path, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        self.check_alone(CocoFile::read(path)?, path, Images::Unread, Split::Val, labels)
    }

    /// Checks the training set from its annotation files alone. Images of folders of `backgrounds` that exist are in
    /// it.
    ///
    /// # Errors
    /// The errors of [`DataConfig::inspect_train`], except for folders of images that do not exist.
    pub fn inspect_train_annotations(&self) -> Result<Opened, DataError> {
        Ok(join_sets(self.train_sets(Reading::Annotations)?))
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
        require_sizes(&file, path)?;
        let opened = self.check_alone(file, path, Images::Unread, split, None)?;
        Ok(if split == Split::Train { self.without_empty(opened) } else { opened })
    }

    /// Opens the training set from its annotation files alone, as [`DataConfig::open_annotations`] opens one file. The
    /// images of `backgrounds` are not in it.
    ///
    /// # Errors
    /// - [`DataError::Missing`] if `data.train.annotations` is not set
    /// - the errors of [`DataConfig::open_annotations`] for each file
    /// - [`DataError::ClassName`], [`DataError::UnknownClass`] or [`DataError::NoClasses`] if the classes of several
    ///   files or `data.classes` do not fit
    pub fn open_train_annotations(&self) -> Result<Opened, DataError> {
        Ok(self.without_empty(join_sets(self.train_sets(Reading::Sizes)?)))
    }

    /// Removes the images without objects from a training set if `filter_empty` is set. Those of folders of background
    /// images stay.
    fn without_empty(&self, mut opened: Opened) -> Opened {
        if self.filter_empty {
            let data = &opened.dataset;
            let keep = |i: &usize| !data.record(*i).objects.is_empty() || data.is_from_backgrounds(*i);
            let kept: Vec<usize> = (0..data.len()).filter(keep).collect();
            opened.dataset = data.select(&kept);
        }
        opened
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
