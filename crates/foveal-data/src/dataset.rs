//! A checked data set: images with their objects.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveal_boxes::BBox;
use foveal_coco::{CocoDataset, LabelMap};
use foveal_image::{ImageLimit, RgbImage};
use sha2::{Digest, Sha256};

use crate::sets::Parts;
use crate::shapes::ShapeImages;
use crate::{CheckReport, DataError};

/// One object of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// The bounding box in pixels of the original image, clipped to the image.
    pub bbox: BBox,
    /// The class, from 0 without gaps; [`Dataset::label_map`] gives the category.
    pub class: u32,
    /// The `area` of the annotation in square pixels (in COCO files the area of the mask), or the area of the box if
    /// the annotation has none.
    pub area: f32,
}

/// The annotation of one image: its file, size, objects and crowd regions.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The COCO id of the image. In a training set that was joined from several, it can differ from the id in the
    /// annotation file, which [`Dataset::origin`] has.
    pub image_id: i64,
    /// The file name as in the annotation file, relative to the image folder.
    pub file_name: String,
    /// Width of the image in pixels, in the orientation that the boxes refer to.
    pub width: u32,
    /// Height of the image in pixels, in the orientation that the boxes refer to.
    pub height: u32,
    /// The objects of the image; empty for a background image.
    pub objects: Vec<Object>,
    /// Crowd regions (`iscrowd`) in pixels of the image. Anchors in them are neither positive nor background.
    pub crowds: Vec<BBox>,
}

/// The source of the pixels of an image.
#[derive(Clone, Debug)]
pub(crate) enum ImageSource {
    /// An image file. If `stored` is true, its EXIF orientation is not applied.
    File { path: PathBuf, stored: bool },
    /// No source, because the data set was opened from its annotations alone.
    Unknown,
    /// An image of the generated data set.
    Shape { set: Arc<ShapeImages>, index: usize },
}

/// A checked data set. The images are in the order of the annotation file, and their indices are from 0 to `len() - 1`.
/// In a training set that was joined from several, the images of the sets follow each other.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Annotation of each image: `[images]`.
    pub(crate) records: Vec<Record>,
    /// Where the pixels of each image come from: `[images]`.
    pub(crate) sources: Vec<ImageSource>,
    /// Map between classes and categories.
    pub(crate) labels: LabelMap,
    /// Ground truth for evaluations: these images with all their annotations.
    pub(crate) coco: CocoDataset,
    /// The limit on the memory that an image may need.
    pub(crate) limit: ImageLimit,
    /// The sets that the data set was joined from.
    pub(crate) parts: Parts,
}

/// An opened data set together with the result of its checks.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The images and objects that can be used.
    pub dataset: Dataset,
    /// The defects that were found and the images and boxes that were left out.
    pub report: CheckReport,
}

impl Dataset {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether the data set has no images.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the map between classes (from 0, without gaps) and categories (ids and names of the annotation file).
    pub fn label_map(&self) -> &LabelMap {
        &self.labels
    }

    /// Returns the annotation of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn record(&self, index: usize) -> &Record {
        &self.records[index]
    }

    /// Returns the annotations of all images, in the order of their indices.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the path of the file of image `index`, or `None` for a generated image and for a data set that was
    /// opened from its annotations alone.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn path(&self, index: usize) -> Option<&Path> {
        match &self.sources[index] {
            ImageSource::File { path, .. } => Some(path),
            ImageSource::Shape { .. } | ImageSource::Unknown => None,
        }
    }

    /// Returns the number of objects of each class, in class order. Crowd regions are not counted.
    pub fn objects_by_class(&self) -> Vec<usize> {
        let mut objects = vec![0; self.labels.len()];
        self.records.iter().flat_map(|r| &r.objects).for_each(|o| objects[o.class as usize] += 1);
        objects
    }

    /// Returns the ground truth for an evaluation: the images of this data set and their annotations with the boxes of
    /// the annotation file, including crowd regions and objects below `data.min_box`.
    pub fn coco(&self) -> &CocoDataset {
        &self.coco
    }

    /// Reads or draws image `index`, in the orientation that its boxes refer to.
    ///
    /// # Errors
    /// - [`DataError::Image`] if the file cannot be read or decoded, or needs more memory than `data.max_image_bytes`
    /// - [`DataError::Size`] if the size of the file has changed since the checks
    /// - [`DataError::NoImages`] if the data set was opened from its annotations alone
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let record = &self.records[index];
        // Messages have the id of the annotation file.
        let image_id = self.file_id(index);
        match &self.sources[index] {
            ImageSource::Shape { set, index } => Ok(set.image(*index)),
            ImageSource::Unknown => Err(DataError::NoImages { image_id }),
            ImageSource::File { path, stored } => {
                let image = if *stored { self.limit.load_stored(path) } else { self.limit.load_rgb(path) };
                let image = image.map_err(|source| DataError::Image { image_id, source })?;
                if image.dimensions() != (record.width, record.height) {
                    return Err(DataError::Size {
                        image_id,
                        path: path.clone(),
                        found: format!("{}x{}", image.width(), image.height()),
                        expected: format!("{}x{}", record.width, record.height),
                    });
                }
                Ok(image)
            }
        }
    }

    /// Returns a data set of the first `n` images that have objects, or of all images that have objects if they are
    /// fewer than `n`. If no image has objects, the first `n` images are taken.
    pub fn subset(&self, n: usize) -> Dataset {
        let with_objects = self.records.iter().any(|r| !r.objects.is_empty());
        let keep = |r: &Record| !with_objects || !r.objects.is_empty();
        let kept: Vec<usize> = (0..self.len()).filter(|&i| keep(&self.records[i])).take(n).collect();
        self.select(&kept)
    }

    /// Returns the ground truth for an evaluation without the images whose ids are in `left_out`.
    pub fn coco_without(&self, left_out: &HashSet<i64>) -> CocoDataset {
        let kept = |id: &i64| !left_out.contains(id);
        CocoDataset {
            images: self.coco.images.iter().filter(|i| kept(&i.id)).cloned().collect(),
            annotations: self.coco.annotations.iter().filter(|a| kept(&a.image_id)).cloned().collect(),
            categories: self.coco.categories.clone(),
        }
    }

    /// Returns the SHA-256, as 64 hexadecimal digits, of what the data set holds: the names, ids and sizes of its
    /// images, its objects and crowd regions, and the ground truth for evaluations, all in their order. Paths of
    /// folders and the pixels of the images are not part of it.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        // Numbers of fixed length and texts with their length, so that no two data sets give the same sequence.
        let mut numbers = |values: &[u64]| values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        let bits = |v: f32| u64::from(v.to_bits());
        let edges = |b: &BBox| [b.x1, b.y1, b.x2, b.y2].map(bits);
        for record in &self.records {
            numbers(&[record.image_id as u64, u64::from(record.width), u64::from(record.height)]);
            numbers(&[record.objects.len() as u64, record.crowds.len() as u64, record.file_name.len() as u64]);
            record.file_name.bytes().for_each(|byte| numbers(&[u64::from(byte)]));
            for object in &record.objects {
                numbers(&edges(&object.bbox));
                numbers(&[u64::from(object.class), bits(object.area)]);
            }
            record.crowds.iter().for_each(|crowd| numbers(&edges(crowd)));
        }
        for annotation in &self.coco.annotations {
            let ids = [annotation.id, annotation.image_id, annotation.category_id];
            numbers(&ids.map(|id| id as u64));
            numbers(&annotation.bbox.map(f64::to_bits));
            numbers(&[annotation.area.to_bits(), u64::from(annotation.iscrowd)]);
        }
        format!("{:x}", hash.finalize())
    }

    /// Returns a data set of the images with these indices, in their order. The classes stay the same, also those that
    /// have no objects on these images.
    ///
    /// # Panics
    /// If an index is not below [`Dataset::len`].
    pub fn select(&self, indices: &[usize]) -> Dataset {
        let records: Vec<Record> = indices.iter().map(|&i| self.records[i].clone()).collect();
        let ids: HashSet<i64> = records.iter().map(|r| r.image_id).collect();
        let others = self.coco.images.iter().map(|i| i.id).filter(|id| !ids.contains(id)).collect();
        let coco = self.coco_without(&others);
        let sources = indices.iter().map(|&i| self.sources[i].clone()).collect();
        let parts = self.parts.select(indices);
        Dataset { records, sources, labels: self.labels.clone(), coco, limit: self.limit, parts }
    }
}
