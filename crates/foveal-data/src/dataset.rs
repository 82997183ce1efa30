//! A set of images with their objects, checked.

use std::path::PathBuf;
use std::sync::Arc;

use foveal_boxes::BBox;
use foveal_coco::{CocoDataset, LabelMap};
use foveal_image::{RgbImage, load_rgb, load_stored};

use crate::shapes::ShapeImages;
use crate::{CheckReport, DataError};

/// One object on an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Pixels of the image, inside it.
    pub bbox: BBox,
    /// Contiguous class.
    pub class: u32,
    /// Square pixels, of the mask where the file says so.
    pub area: f32,
}

/// One image's annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The file's id.
    pub image_id: i64,
    /// As in the file.
    pub file_name: String,
    /// Pixels, in the coordinates of the boxes.
    pub width: u32,
    /// Pixels, in the coordinates of the boxes.
    pub height: u32,
    /// Its objects; none is fine.
    pub objects: Vec<Object>,
    /// Regions that are neither object nor background.
    pub crowds: Vec<BBox>,
}

/// Where an image's pixels come from.
#[derive(Clone, Debug)]
pub(crate) enum ImageSource {
    /// A file; `stored` leaves its EXIF orientation aside.
    File { path: PathBuf, stored: bool },
    /// None: the set was opened by its annotations alone.
    Unknown,
    /// A generated one.
    Shape { set: Arc<ShapeImages>, index: usize },
}

/// A checked set, in the file's order.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) records: Vec<Record>,
    pub(crate) sources: Vec<ImageSource>,
    pub(crate) labels: LabelMap,
    pub(crate) coco: CocoDataset,
}

/// A set and what the checks found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What can be used.
    pub dataset: Dataset,
    /// What was found and left out.
    pub report: CheckReport,
}

impl Dataset {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Classes and categories.
    pub fn label_map(&self) -> &LabelMap {
        &self.labels
    }

    /// The annotation of image `index`.
    ///
    /// # Panics
    /// `index >= len()`.
    pub fn record(&self, index: usize) -> &Record {
        &self.records[index]
    }

    /// All annotations.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The number of objects of each class, in class order.
    pub fn objects_by_class(&self) -> Vec<usize> {
        let mut objects = vec![0; self.labels.len()];
        self.records.iter().flat_map(|r| &r.objects).for_each(|o| objects[o.class as usize] += 1);
        objects
    }

    /// Ground truth for an evaluation: the images of this set with their annotations as the file has them.
    pub fn coco(&self) -> &CocoDataset {
        &self.coco
    }

    /// The pixels of image `index`, in the coordinates of its boxes.
    ///
    /// # Errors
    /// [`DataError::Image`], or [`DataError::Size`] when the file changed since the checks; [`DataError::NoImages`] for a
    /// set that was opened by its annotations alone.
    ///
    /// # Panics
    /// `index >= len()`.
    pub fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let record = &self.records[index];
        match &self.sources[index] {
            ImageSource::Shape { set, index } => Ok(set.image(*index)),
            ImageSource::Unknown => Err(DataError::NoImages { image_id: record.image_id }),
            ImageSource::File { path, stored } => {
                let image = if *stored { load_stored(path) } else { load_rgb(path) };
                let image = image.map_err(|source| DataError::Image { image_id: record.image_id, source })?;
                if image.dimensions() != (record.width, record.height) {
                    return Err(DataError::Size {
                        image_id: record.image_id,
                        path: path.clone(),
                        found: format!("{}x{}", image.width(), image.height()),
                        expected: format!("{}x{}", record.width, record.height),
                    });
                }
                Ok(image)
            }
        }
    }

    /// The first `n` images with objects (all images count when none has any), as a set of its own.
    pub fn subset(&self, n: usize) -> Dataset {
        let with_objects = self.records.iter().any(|r| !r.objects.is_empty());
        let keep = |r: &Record| !with_objects || !r.objects.is_empty();
        let kept: Vec<usize> = (0..self.len()).filter(|&i| keep(&self.records[i])).take(n).collect();
        self.select(&kept)
    }

    /// The images of these indices, as a set of its own.
    pub(crate) fn select(&self, indices: &[usize]) -> Dataset {
        let records: Vec<Record> = indices.iter().map(|&i| self.records[i].clone()).collect();
        let ids: std::collections::HashSet<i64> = records.iter().map(|r| r.image_id).collect();
        let coco = CocoDataset {
            images: self.coco.images.iter().filter(|i| ids.contains(&i.id)).cloned().collect(),
            annotations: self.coco.annotations.iter().filter(|a| ids.contains(&a.image_id)).cloned().collect(),
            categories: self.coco.categories.clone(),
        };
        let sources = indices.iter().map(|&i| self.sources[i].clone()).collect();
        Dataset { records, sources, labels: self.labels.clone(), coco }
    }
}
