//! The checks of a data set before a run starts. They find every defect that could stop the run later.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use foveal_coco::{
    Annotation, Category, Classes, CocoDataset, CocoError, CocoFile, Finding, Image, LabelMap, List, xywh_to_bbox,
};
use foveal_image::{FileSize, ImageError, ImageLimit};
use rayon::prelude::*;

use crate::dataset::{Dataset, ImageSource, Object, Opened, Record};
use crate::located::{Located, locate};
use crate::sets::{Categories, Parts, ignore_all_classes};
use crate::shapes::Split;
use crate::unusable::Annotated;
use crate::{CheckReport, DataConfig, DataError, Problem};

impl DataConfig {
    /// Checks a data set and leaves out the images and boxes that cannot be used, whatever `on_error` is. The report
    /// says if nothing is left of a set of this kind.
    pub(crate) fn check(
        &self,
        file: CocoFile,
        path: &Path,
        images: Images<'_>,
        split: Split,
        categories: Categories<'_>,
    ) -> Result<Opened, DataError> {
        let mut report = CheckReport { set: path.display().to_string(), ..CheckReport::default() };
        let mut own = classes(&file.dataset, path, categories.known())?;
        own.unused_roots.retain(|category| categories.keep(category));
        report_categories(&own, &mut report);
        let labels = match &categories {
            Categories::Own => own.labels,
            Categories::Of(labels) => {
                check_categories(&own.labels, labels, path)?;
                (*labels).clone()
            }
            Categories::Mapped(labels, _) => (*labels).clone(),
        };
        report_bad_records(&file, &mut report);
        let mut refused = report_findings(&file, &mut report);
        let annotated = Annotated::of(&file.dataset, file.bad.count(List::Annotations));
        let mut coco = file.dataset;
        let ignored = match &categories {
            Categories::Mapped(labels, map) => map.apply(&mut coco, labels, &mut refused, &mut report),
            Categories::Own | Categories::Of(_) => HashSet::new(),
        };
        let mut seen = HashSet::new();
        coco.images.retain(|image| !image.file_name.is_empty() && seen.insert(image.id));

        // Image headers are read in parallel. The results keep the order of the annotation file.
        let located = images.locate(&coco.images, &mut report);
        let limit = self.image_limit();
        let sizes: Vec<Result<FileSize, ImageError>> =
            coco.images.par_iter().zip(&located).map(|(image, located)| images.size(image, located, limit)).collect();
        let mut records = Vec::new();
        let mut sources = Vec::new();
        let mut record_of: HashMap<i64, usize> = HashMap::new();
        for ((image, size), located) in coco.images.iter_mut().zip(sizes).zip(located) {
            let Some(checked) = check_image(image, size, &located, &mut report) else { continue };
            image.width = checked.width;
            image.height = checked.height;
            record_of.insert(image.id, records.len());
            sources.push(images.source(located, checked.stored));
            records.push(Record {
                image_id: image.id,
                file_name: image.file_name.clone(),
                width: checked.width,
                height: checked.height,
                objects: Vec::new(),
                crowds: Vec::new(),
            });
        }
        coco.images.retain(|image| record_of.contains_key(&image.id));

        let mut index = 0;
        let mut ids = HashSet::new();
        coco.annotations.retain(|annotation| {
            let keep = !refused.contains(&index) && record_of.contains_key(&annotation.image_id);
            index += 1;
            keep && ids.insert(annotation.id)
        });
        for annotation in &coco.annotations {
            let record = &mut records[record_of[&annotation.image_id]];
            let class = labels.class_of(annotation.category_id).expect("unknown categories are refused");
            self.add_box(annotation, class, record, &mut report);
        }
        let outside = report.skipped.iter().filter(|s| s.problem == Problem::OutsideBox);
        let outside: HashSet<i64> = outside.filter_map(|s| s.annotation_id).collect();
        coco.annotations.retain(|annotation| !outside.contains(&annotation.id));
        ignore_all_classes(&mut coco, &labels, &ignored);
        // A category that is no class, or that the file lists twice, is no category of an evaluation either.
        let mut seen = HashSet::new();
        coco.categories.retain(|category| labels.class_of(category.id).is_some() && seen.insert(category.id));
        // Categories that only `labels` has are added, so that an evaluation lists them too.
        for category in labels.categories() {
            if !coco.categories.iter().any(|c| c.id == category.id) {
                coco.categories.push(Category { id: category.id, name: category.name.clone(), supercategory: None });
            }
        }
        report.count_records(&records);
        annotated.judge(split, &coco, &mut report);
        Ok(Opened { dataset: Dataset { records, sources, labels, coco, limit, parts: Parts::default() }, report })
    }

    /// Adds a box to the record of its image as an object or a crowd region. The box is clipped to the image; it is
    /// left out if it lies outside.
    fn add_box(&self, annotation: &Annotation, class: u32, record: &mut Record, report: &mut CheckReport) {
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
        // Clipping by up to half a pixel is not reported, because coordinates in annotation files are rounded.
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

/// The source of the images of a data set.
#[derive(Clone, Copy)]
pub(crate) enum Images<'a> {
    /// A folder of image files.
    Folder(&'a Path),
    /// The image files are not read, and the sizes in the annotation file are used.
    Unread,
}

impl Images<'_> {
    /// The image files, in the order of the images.
    fn locate(self, images: &[Image], report: &mut CheckReport) -> Vec<Located> {
        match self {
            Self::Folder(folder) => locate(folder, images, report),
            Self::Unread => images.iter().map(|_| Located { path: PathBuf::new(), hint: None }).collect(),
        }
    }

    fn size(self, image: &Image, located: &Located, limit: ImageLimit) -> Result<FileSize, ImageError> {
        match self {
            Self::Folder(_) => limit.file_size(&located.path),
            Self::Unread => {
                let Image { width, height, .. } = *image;
                Ok(FileSize { width, height, stored_width: width, stored_height: height, bytes: 0 })
            }
        }
    }

    fn source(self, located: Located, stored: bool) -> ImageSource {
        match self {
            Self::Folder(_) => ImageSource::File { path: located.path, stored },
            Self::Unread => ImageSource::Unknown,
        }
    }
}

/// Makes classes of the categories of an annotation file, of which `known` are those of a model.
pub(crate) fn classes(coco: &CocoDataset, path: &Path, known: Option<&LabelMap>) -> Result<Classes, DataError> {
    Classes::of(coco, known).map_err(|source: CocoError| DataError::Categories { path: path.to_owned(), source })
}

/// Notes the categories that are no class, and those that are a class without objects.
fn report_categories(classes: &Classes, report: &mut CheckReport) {
    for dropped in &classes.dropped {
        let Category { id, name, .. } = &dropped.category;
        let reason = match dropped.kept {
            Some(kept) => format!("has the name of category {kept}"),
            None => "is no class of the training set".to_owned(),
        };
        report.add(Problem::DoubledCategory, format!("category {id} {name:?} has no objects and {reason}"));
    }
    for Category { id, name, .. } in &classes.unused_roots {
        report.add(Problem::UnusedRoot, format!("category {id} {name:?}"));
    }
}

/// Checks that every category of a data set is one of `labels`, by id and by name. With a misspelt or shifted category,
/// another class would be trained or evaluated without notice.
fn check_categories(own: &LabelMap, labels: &LabelMap, path: &Path) -> Result<(), DataError> {
    for category in own.categories() {
        let expected = match labels.class_of(category.id) {
            Some(class) if labels.category(class).name == category.name => continue,
            Some(class) => format!("the training set names it {:?}", labels.category(class).name),
            None => match labels.categories().iter().find(|c| c.name == category.name) {
                Some(known) => format!("the training set gives this name to the id {}", known.id),
                None => "the training set has neither this id nor this name".to_owned(),
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

/// Adds the records that the COCO reader could not read to the report.
fn report_bad_records(file: &CocoFile, report: &mut CheckReport) {
    let lists = [
        (List::Images, Problem::ImageRecord),
        (List::Annotations, Problem::AnnotationRecord),
        (List::Categories, Problem::CategoryRecord),
    ];
    for (list, problem) in lists {
        for bad in file.bad.described.iter().filter(|bad| bad.place.list == list) {
            let annotation_id = bad.id.filter(|_| list == List::Annotations);
            let reason = format!("{} ({})", bad.message, bad.place);
            report.skip(bad.image_id.unwrap_or_default(), annotation_id, problem, reason);
        }
        report.count_more(problem, file.bad.count(list) - report.count(problem));
    }
}

/// Adds the defects of records that the COCO reader could read to the report. Returns the indices of the annotations
/// that cannot be used.
fn report_findings(file: &CocoFile, report: &mut CheckReport) -> HashSet<usize> {
    for (finding, place) in file.findings() {
        let problem = match finding {
            Finding::DuplicateImage { .. } => Problem::DuplicateImage,
            Finding::NoFileName { .. } => Problem::NoFileName,
            // The size is read from the image file later.
            Finding::NoSize { .. } => continue,
            Finding::DuplicateAnnotation { .. } => Problem::DuplicateAnnotation,
            Finding::UnknownImage { .. } => Problem::UnknownImage,
            Finding::UnknownCategory { .. } => Problem::UnknownCategory,
            Finding::NotFinite { .. } => Problem::NotFinite,
            Finding::EmptyBox { .. } => Problem::EmptyBox,
            _ => Problem::Other,
        };
        let image_id = finding.image_id().unwrap_or_default();
        report.skip(image_id, finding.annotation_id(), problem, format!("{finding} ({place})"));
    }
    let coco = &file.dataset;
    let categories: HashSet<i64> = coco.categories.iter().map(|c| c.id).collect();
    if report.count(Problem::UnknownCategory) > 0 {
        report_shift(coco, &categories, report);
    }
    let unusable = |a: &Annotation| {
        let [_, _, width, height] = a.bbox;
        !a.bbox.iter().all(|v| v.is_finite()) || width <= 0.0 || height <= 0.0 || !categories.contains(&a.category_id)
    };
    coco.annotations.iter().enumerate().filter(|(_, a)| unusable(a)).map(|(index, _)| index).collect()
}

/// Notes if the category ids of all annotations are known after 1 is added or subtracted, as where one file counts
/// categories from 0 and the other from 1.
fn report_shift(coco: &CocoDataset, categories: &HashSet<i64>, report: &mut CheckReport) {
    let used: HashSet<i64> = coco.annotations.iter().map(|a| a.category_id).collect();
    let fits = |by: &i64| used.iter().all(|id| categories.contains(&(id.saturating_add(*by))));
    if let (Some(by), true) = ([1, -1].into_iter().find(fits), used.len() > 1) {
        let range = |ids: &HashSet<i64>| match (ids.iter().min(), ids.iter().max()) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            _ => "none".to_owned(),
        };
        let text = format!(
            "the annotations have the category ids {}, the categories {}; with {by:+} every annotation has a category",
            range(&used),
            range(categories)
        );
        report.add(Problem::ShiftedCategories, text);
    }
}

/// The size of an image in the orientation that its boxes refer to.
struct CheckedSize {
    width: u32,
    height: u32,
    /// Whether the boxes refer to the pixels as stored, without the EXIF orientation.
    stored: bool,
}

/// Compares the size in the annotation file with the size of the image file. `None` if the image cannot be used.
fn check_image(
    image: &Image,
    size: Result<FileSize, ImageError>,
    located: &Located,
    report: &mut CheckReport,
) -> Option<CheckedSize> {
    let size = match size {
        Ok(size) => size,
        Err(error) => {
            let missing =
                matches!(&error, ImageError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            let problem = if missing { Problem::MissingImage } else { Problem::BrokenImage };
            let hint = located.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
            report.skip(image.id, None, problem, format!("image {}: {error}{hint}", image.id));
            return None;
        }
    };
    let FileSize { width, height, stored_width, stored_height, .. } = size;
    if width == 0 || height == 0 {
        let text = format!("image {}: {} has no width or height", image.id, image.file_name);
        report.skip(image.id, None, Problem::SizeUnknown, text);
        return None;
    }
    if image.width == 0 || image.height == 0 {
        report.add(Problem::NoSize, format!("image {}: {} has {width}x{height} pixels", image.id, image.file_name));
    } else if (image.width, image.height) != (width, height) {
        let text = format!(
            "image {}: {} has {width}x{height} pixels, but the annotation file says {}x{}",
            image.id, image.file_name, image.width, image.height
        );
        if (image.width, image.height) == (stored_width, stored_height) {
            report.add(Problem::StoredOrientation, text);
            return Some(CheckedSize { width: stored_width, height: stored_height, stored: true });
        }
        report.skip(image.id, None, Problem::SizeMismatch, text);
        return None;
    }
    Some(CheckedSize { width, height, stored: false })
}
