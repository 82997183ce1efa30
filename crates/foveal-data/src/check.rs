//! The checks of a set: everything that could stop a run later is looked for before it starts.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use foveal_coco::{Annotation, Category, CocoDataset, CocoError, Finding, Image, LabelMap, xywh_to_bbox};
use foveal_image::{FileSize, ImageError, file_size};
use rayon::prelude::*;

use crate::dataset::{Dataset, ImageSource, Object, Opened, Record};
use crate::{CheckReport, DataConfig, DataError, Problem};

impl DataConfig {
    /// Checks a set whatever `on_error` says, and leaves out what cannot be used.
    pub(crate) fn check(
        &self,
        mut coco: CocoDataset,
        path: &Path,
        images: Images<'_>,
        labels: Option<&LabelMap>,
    ) -> Result<Opened, DataError> {
        let own = label_map(&coco.categories, path)?;
        let labels = match labels {
            None => own,
            Some(labels) => {
                agree(&own, labels, path)?;
                labels.clone()
            }
        };
        let mut report = CheckReport { set: path.display().to_string(), ..CheckReport::default() };
        let refused = note_findings(&coco, &mut report);
        let mut seen = HashSet::new();
        coco.images.retain(|image| !image.file_name.is_empty() && seen.insert(image.id));

        // Headers are read in parallel; results keep the file's order.
        let sizes: Vec<Result<FileSize, ImageError>> = coco.images.par_iter().map(|image| images.size(image)).collect();
        let mut records = Vec::new();
        let mut sources = Vec::new();
        let mut place: HashMap<i64, usize> = HashMap::new();
        for (image, size) in coco.images.iter_mut().zip(sizes) {
            let Some(placed) = place_image(image, size, &mut report) else { continue };
            image.width = placed.width;
            image.height = placed.height;
            place.insert(image.id, records.len());
            sources.push(images.source(image, placed.stored));
            records.push(Record {
                image_id: image.id,
                file_name: image.file_name.clone(),
                width: placed.width,
                height: placed.height,
                objects: Vec::new(),
                crowds: Vec::new(),
            });
        }
        coco.images.retain(|image| place.contains_key(&image.id));

        let mut index = 0;
        let mut ids = HashSet::new();
        coco.annotations.retain(|annotation| {
            let keep = !refused.contains(&index) && place.contains_key(&annotation.image_id);
            index += 1;
            keep && ids.insert(annotation.id)
        });
        for annotation in &coco.annotations {
            let record = &mut records[place[&annotation.image_id]];
            let class = labels.class_of(annotation.category_id).expect("unknown categories are refused");
            self.place_object(annotation, class, record, &mut report);
        }
        let outside = report.skipped.iter().filter(|s| s.problem == Problem::OutsideBox);
        let outside: HashSet<i64> = outside.filter_map(|s| s.annotation_id).collect();
        coco.annotations.retain(|annotation| !outside.contains(&annotation.id));
        // A category that only the model has still gets its line in an evaluation.
        for category in labels.categories() {
            if !coco.categories.iter().any(|c| c.id == category.id) {
                coco.categories.push(Category { id: category.id, name: category.name.clone(), supercategory: None });
            }
        }
        report.images = records.len();
        report.empty_images = records.iter().filter(|r| r.objects.is_empty()).count();
        report.objects = records.iter().map(|r| r.objects.len()).sum();
        report.crowds = records.iter().map(|r| r.crowds.len()).sum();
        Ok(Opened { dataset: Dataset { records, sources, labels, coco }, report })
    }

    /// Files a box under its record: clipped, and dropped when nothing is left of it.
    fn place_object(&self, annotation: &Annotation, class: u32, record: &mut Record, report: &mut CheckReport) {
        let full = xywh_to_bbox(&annotation.bbox);
        let bbox = full.clip(record.width as f32, record.height as f32);
        let name = || {
            let [x, y, w, h] = annotation.bbox;
            let Record { width, height, file_name, .. } = &*record;
            format!("annotation {} on {file_name} ({width}x{height}): [{x}, {y}, {w}, {h}]", annotation.id)
        };
        if bbox.is_degenerate() {
            return report.skip(record.image_id, Some(annotation.id), Problem::OutsideBox, name());
        }
        // File coordinates carry rounding of two decimals or less.
        const EDGE: f32 = 0.5;
        let moved = [bbox.x1 - full.x1, bbox.y1 - full.y1, full.x2 - bbox.x2, full.y2 - bbox.y2];
        if moved.iter().any(|d| *d > EDGE) {
            report.add(Problem::ClippedBox, name());
        }
        if annotation.iscrowd {
            if !self.drop_crowds {
                record.crowds.push(bbox);
            }
        } else if bbox.width() < self.min_box || bbox.height() < self.min_box {
            report.add(Problem::SmallBox, name());
        } else {
            record.objects.push(Object { bbox, class, area: annotation.area as f32 });
        }
    }
}

/// Where a set's images are.
#[derive(Clone, Copy)]
pub(crate) enum Images<'a> {
    Folder(&'a Path),
    /// They are not looked for: the sizes in the annotations are believed.
    Unread,
}

impl Images<'_> {
    fn size(self, image: &Image) -> Result<FileSize, ImageError> {
        match self {
            Self::Folder(folder) => file_size(&folder.join(&image.file_name)),
            Self::Unread => {
                let Image { width, height, .. } = *image;
                Ok(FileSize { width, height, stored_width: width, stored_height: height })
            }
        }
    }

    fn source(self, image: &Image, stored: bool) -> ImageSource {
        match self {
            Self::Folder(folder) => ImageSource::File { path: folder.join(&image.file_name), stored },
            Self::Unread => ImageSource::Unknown,
        }
    }
}

pub(crate) fn label_map(categories: &[Category], path: &Path) -> Result<LabelMap, DataError> {
    LabelMap::from_categories(categories)
        .map_err(|source: CocoError| DataError::Categories { path: path.to_owned(), source })
}

/// Every category of a set must be one of the model's, by id and by name: a misspelt or shifted one would silently
/// teach or measure something else.
fn agree(own: &LabelMap, labels: &LabelMap, path: &Path) -> Result<(), DataError> {
    for category in own.categories() {
        let expected = match labels.class_of(category.id) {
            Some(class) if labels.category(class).name == category.name => continue,
            Some(class) => format!("{:?} by that id in the training set", labels.category(class).name),
            None => match labels.categories().iter().find(|c| c.name == category.name) {
                Some(known) => format!("that name has id {} in the training set", known.id),
                None => "the training set has no such category".to_owned(),
            },
        };
        return Err(DataError::Labels {
            path: path.to_owned(),
            id: category.id,
            found: category.name.clone(),
            expected,
        });
    }
    Ok(())
}

/// Puts the reader's findings into the report; returns the positions of annotations that cannot be used.
fn note_findings(coco: &CocoDataset, report: &mut CheckReport) -> HashSet<usize> {
    for finding in coco.findings() {
        let problem = match finding {
            Finding::DuplicateImage { .. } => Problem::DuplicateImage,
            Finding::NoFileName { .. } => Problem::NoFileName,
            // Measured below.
            Finding::NoSize { .. } => continue,
            Finding::DuplicateAnnotation { .. } => Problem::DuplicateAnnotation,
            Finding::UnknownImage { .. } => Problem::UnknownImage,
            Finding::UnknownCategory { .. } => Problem::UnknownCategory,
            Finding::NotFinite { .. } => Problem::NotFinite,
            Finding::EmptyBox { .. } => Problem::EmptyBox,
            _ => Problem::Other,
        };
        let image_id = finding.image_id().unwrap_or_default();
        report.skip(image_id, finding.annotation_id(), problem, finding.to_string());
    }
    let categories: HashSet<i64> = coco.categories.iter().map(|c| c.id).collect();
    let unusable = |a: &Annotation| {
        let [_, _, width, height] = a.bbox;
        !a.bbox.iter().all(|v| v.is_finite()) || width <= 0.0 || height <= 0.0 || !categories.contains(&a.category_id)
    };
    coco.annotations.iter().enumerate().filter(|(_, a)| unusable(a)).map(|(index, _)| index).collect()
}

/// How an image's pixels lie under its boxes.
struct Placed {
    width: u32,
    height: u32,
    stored: bool,
}

/// Compares the annotated size with the file's; `None` when the image cannot be used.
fn place_image(image: &Image, size: Result<FileSize, ImageError>, report: &mut CheckReport) -> Option<Placed> {
    let size = match size {
        Ok(size) => size,
        Err(error) => {
            let missing =
                matches!(&error, ImageError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            let problem = if missing { Problem::MissingImage } else { Problem::BrokenImage };
            report.skip(image.id, None, problem, format!("image {}: {error}", image.id));
            return None;
        }
    };
    let FileSize { width, height, stored_width, stored_height } = size;
    if image.width == 0 || image.height == 0 {
        report.add(Problem::NoSize, format!("image {}: {} is {width}x{height}", image.id, image.file_name));
    } else if (image.width, image.height) != (width, height) {
        let text = format!(
            "image {}: {} is {width}x{height}, annotated as {}x{}",
            image.id, image.file_name, image.width, image.height
        );
        if (image.width, image.height) == (stored_width, stored_height) {
            report.add(Problem::StoredOrientation, text);
            return Some(Placed { width: stored_width, height: stored_height, stored: true });
        }
        report.skip(image.id, None, Problem::SizeMismatch, text);
        return None;
    }
    Some(Placed { width, height, stored: false })
}
