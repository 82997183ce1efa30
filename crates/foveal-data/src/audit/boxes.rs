//! Single boxes: fractions, boxes as large as their image, and very small ones.

use foveal_boxes::BBox;
use foveal_coco::{Annotation, xywh_to_bbox};

use super::Annotations;
use super::cases::{Cases, Spot};
use crate::{Opened, Problem, Record};

/// Share of the width and of the height of an image from which a box covers it.
const WHOLE: f32 = 0.99;
/// Length in pixels below which a side of a box is tiny.
const TINY: f32 = 2.0;
/// Length in pixels by which a box may extend beyond its image, because coordinates in annotation files are rounded.
pub(super) const EDGE: f64 = 0.5;

/// Finds boxes that look wrong on their own. Boxes that are clipped or dropped are shown too, which the checks have
/// counted.
pub(super) fn boxes(set: usize, opened: &Opened, by_image: &Annotations, cases: &mut Cases) {
    let data = &opened.dataset;
    // Where all boxes are fractions, the checks have said so.
    let all_fractions = opened.report.count(Problem::Fractions) > 0;
    for (image, record) in data.records().iter().enumerate() {
        for &index in &by_image.0[image] {
            let annotation = &data.coco().annotations[index as usize];
            let full = xywh_to_bbox(&annotation.bbox);
            let kept = full.clip(record.width as f32, record.height as f32);
            let (sides, kept_sides) = ([full.width(), full.height()], [kept.width(), kept.height()]);
            let mut add = |problem| cases.add(set, problem, || of_box(set, image, opened, annotation));
            let problem = if is_fraction(&annotation.bbox) {
                if all_fractions {
                    continue;
                }
                Problem::FractionBox
            } else if annotation.iscrowd {
                continue;
            } else if covers(kept_sides, record) {
                Problem::WholeImageBox
            } else if opened.report.count(Problem::SmallBox) > 0 && !has_object(record, &kept) {
                Problem::SmallBox
            } else if sides.iter().any(|side| *side < TINY) {
                Problem::TinyBox
            } else {
                if leaves(&annotation.bbox, record) {
                    add(Problem::ClippedBox);
                }
                continue;
            };
            add(problem);
        }
    }
}

/// Whether all numbers of a box lie within 0 to 1, and not all are whole: a box of whole pixels may be that small.
fn is_fraction(xywh: &[f64; 4]) -> bool {
    xywh.iter().all(|v| (0.0..=1.0).contains(v)) && xywh.iter().any(|v| v.fract() != 0.0)
}

fn covers([width, height]: [f32; 2], record: &Record) -> bool {
    width >= WHOLE * record.width as f32 && height >= WHOLE * record.height as f32
}

/// Whether a box is that of an object that training uses.
pub(super) fn has_object(record: &Record, clipped: &BBox) -> bool {
    record.objects.iter().any(|object| object.bbox == *clipped)
}

/// Whether a box extends beyond its image.
pub(super) fn leaves([x, y, width, height]: &[f64; 4], record: &Record) -> bool {
    let beyond = [-x, -y, x + width - f64::from(record.width), y + height - f64::from(record.height)];
    beyond.into_iter().any(|d| d > EDGE)
}

/// The description of an annotation, and its place.
pub(super) fn of_box(set: usize, image: usize, opened: &Opened, annotation: &Annotation) -> (String, Vec<Spot>) {
    let [x, y, width, height] = annotation.bbox;
    let text = format!("{}: [{x}, {y}, {width}, {height}]", named(image, opened, annotation));
    (text, vec![spot(set, image, opened, [annotation])])
}

/// An annotation in words, with its class and image.
pub(super) fn named(image: usize, opened: &Opened, annotation: &Annotation) -> String {
    let Record { image_id, file_name, width, height, .. } = opened.dataset.record(image);
    let labels = opened.dataset.label_map();
    let class = labels.class_of(annotation.category_id).map_or("?", |class| &*labels.category(class).name);
    format!("annotation {} ({class}) on image {image_id}, {file_name} ({width}x{height})", annotation.id)
}

/// The place of some annotations of an image.
pub(super) fn spot<'a>(
    set: usize,
    image: usize,
    opened: &Opened,
    annotations: impl IntoIterator<Item = &'a Annotation>,
) -> Spot {
    let class = |annotation: &Annotation| opened.dataset.label_map().class_of(annotation.category_id).unwrap_or(0);
    let boxes = annotations.into_iter().map(|annotation| (xywh_to_bbox(&annotation.bbox), class(annotation)));
    Spot { set, image, boxes: boxes.collect() }
}
