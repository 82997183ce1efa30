//! Objects with the box of another object on their image.

use std::collections::HashMap;

use foveal_boxes::{BBox, iou};
use foveal_coco::{Annotation, xywh_to_bbox};

use super::Annotations;
use super::boxes::{named, spot};
use super::cases::Cases;
use crate::{Opened, Problem};

/// IoU from which two boxes are nearly the same.
const SAME: f32 = 0.95;
/// Share of the width of a box by which the left edge of a box of an IoU of [`SAME`] may be further right. The two
/// share at least [`SAME`] of the width that they cover together, which is `1 / SAME - 1 = 0.053` of the width of the
/// first.
const FURTHER: f32 = 0.06;

/// An annotation with its box.
#[derive(Clone, Copy)]
struct Boxed<'a> {
    annotation: &'a Annotation,
    bbox: BBox,
}

/// Finds objects with the box of another one: of the same class exactly or nearly, or of another class.
pub(super) fn pairs(set: usize, opened: &Opened, by_image: &Annotations, cases: &mut Cases) {
    for (image, indices) in by_image.0.iter().enumerate() {
        let annotations = indices.iter().map(|&index| &opened.dataset.coco().annotations[index as usize]);
        let mut add = |problem, a: &Annotation, b: &Annotation| {
            cases.add(set, problem, || {
                let [x, y, width, height] = a.bbox;
                let other = if a.category_id == b.category_id { String::new() } else { class(opened, b) };
                let text = format!(
                    "{} and annotation {}{other}: [{x}, {y}, {width}, {height}]",
                    named(image, opened, a),
                    b.id
                );
                (text, vec![spot(set, image, opened, [a, b])])
            });
        };
        let mut first: HashMap<([u64; 4], i64), &Annotation> = HashMap::new();
        let mut distinct = Vec::new();
        for annotation in annotations.filter(|annotation| !annotation.iscrowd) {
            let key = (annotation.bbox.map(f64::to_bits), annotation.category_id);
            match first.get(&key) {
                Some(other) => add(Problem::RepeatedBox, other, annotation),
                None => {
                    first.insert(key, annotation);
                    distinct.push(Boxed { annotation, bbox: xywh_to_bbox(&annotation.bbox) });
                }
            }
        }
        distinct.sort_by(|a, b| a.bbox.x1.total_cmp(&b.bbox.x1));
        for (index, a) in distinct.iter().enumerate() {
            let reach = a.bbox.x1 + FURTHER * a.bbox.width();
            for b in distinct[index + 1..].iter().take_while(|b| b.bbox.x1 <= reach) {
                if iou(&a.bbox, &b.bbox) >= SAME {
                    let same_class = a.annotation.category_id == b.annotation.category_id;
                    let problem = if same_class { Problem::SimilarBox } else { Problem::TwoClasses };
                    add(problem, a.annotation, b.annotation);
                }
            }
        }
    }
}

fn class(opened: &Opened, annotation: &Annotation) -> String {
    let labels = opened.dataset.label_map();
    let class = labels.class_of(annotation.category_id).map_or("?", |class| &*labels.category(class).name);
    format!(" ({class})")
}
