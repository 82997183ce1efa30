//! Opening a set: by annotations and images, by annotations alone, or a generated one.

use std::path::Path;

use foveal_coco::{CocoDataset, LabelMap};

use crate::check::{Images, label_map};
use crate::dataset::Opened;
use crate::shapes::{self, Split};
use crate::{DataConfig, DataError, OnError, SetConfig, Source};

impl DataConfig {
    /// Opens and checks the training set.
    ///
    /// # Errors
    /// Settings, files and categories that cannot be used; with `on_error = "fail"` also [`DataError::Check`] with all
    /// that was found.
    pub fn open_train(&self) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        let opened = match self.source {
            Source::Shapes => shapes::open(&self.shapes, Split::Train),
            Source::Coco => self.open_coco(&self.train, KEYS_TRAIN, None)?,
        };
        Ok(self.without_empty(opened))
    }

    /// Opens and checks the validation set, with the classes of the training set where the config names one.
    ///
    /// # Errors
    /// As [`DataConfig::open_train`], and [`DataError::Labels`] for a category that the training set does not know.
    pub fn open_val(&self) -> Result<Opened, DataError> {
        let labels = match (self.source, &self.train.annotations) {
            (Source::Coco, Some(path)) if path.exists() => Some(label_map(&CocoDataset::read(path)?.categories, path)?),
            _ => None,
        };
        self.open_val_with(labels.as_ref())
    }

    /// Opens and checks the validation set with the classes of a model; `None` takes the set's own.
    ///
    /// # Errors
    /// As [`DataConfig::open_val`].
    pub fn open_val_with(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        match self.source {
            Source::Shapes => Ok(shapes::open(&self.shapes, Split::Val)),
            Source::Coco => self.open_coco(&self.val, KEYS_VAL, labels),
        }
    }

    /// Opens a set by its annotations alone, to count what is in it: no image is read, and none can be loaded. What
    /// cannot be used is left out whatever `on_error` says.
    ///
    /// # Errors
    /// Settings, a file or categories that cannot be used; [`DataError::NoImageSize`] for an image without a size.
    pub fn open_annotations(&self, path: &Path, split: Split) -> Result<Opened, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        let coco = CocoDataset::read(path)?;
        if let Some(image) = coco.images.iter().find(|image| image.width == 0 || image.height == 0) {
            return Err(DataError::NoImageSize { path: path.to_owned(), image_id: image.id });
        }
        let opened = self.check(coco, path, Images::Unread, None)?;
        Ok(if split == Split::Train { self.without_empty(opened) } else { opened })
    }

    /// Leaves images without objects out of a training set, where `filter_empty` says so.
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
        let annotations = annotations.ok_or_else(|| missing(keys.annotations, "a COCO annotation file"))?;
        let images = set.images.as_deref().ok_or_else(|| missing(keys.images, "the folder of the images"))?;
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

/// The config keys of a set, for messages.
#[derive(Clone, Copy)]
struct Keys {
    annotations: &'static str,
    images: &'static str,
}

const KEYS_TRAIN: Keys = Keys { annotations: "data.train.annotations", images: "data.train.images" };
const KEYS_VAL: Keys = Keys { annotations: "data.val.annotations", images: "data.val.images" };
