//! Objects whose size or aspect ratio is far from that of the others of their class.

use foveal_coco::{Annotation, xywh_to_bbox};

use super::Annotations;
use super::boxes::{has_object, named, spot};
use super::cases::Cases;
use crate::{Opened, Problem};

/// Fewest objects of a class whose distribution says something.
const FEWEST: usize = 20;
/// Number of standard deviations from the median from which an object is an outlier. Of a million normally distributed
/// values, none is expected.
const DEVIATIONS: f64 = 6.0;
/// Standard deviation of a normal distribution over its median absolute deviation (MAD).
const NORMAL: f64 = 1.4826;
/// Smallest factor between an outlier and the median, so that a class of nearly equal objects has no outliers.
const FACTOR: f64 = 4.0;

/// An object with the logarithms of its size and of its aspect ratio.
struct Measured<'a> {
    image: usize,
    annotation: &'a Annotation,
    /// The square root of the area in pixels, and height over width.
    values: [f64; 2],
}

/// Finds outliers of each class by the median and the median absolute deviation of the logarithm of the size (the
/// square root of the area) and of the aspect ratio (height over width).
pub(super) fn outliers(set: usize, opened: &Opened, by_image: &Annotations, cases: &mut Cases) {
    let data = &opened.dataset;
    let mut classes: Vec<Vec<Measured>> = (0..data.label_map().len()).map(|_| Vec::new()).collect();
    for (image, record) in data.records().iter().enumerate() {
        for &index in &by_image.0[image] {
            let annotation = &data.coco().annotations[index as usize];
            let bbox = xywh_to_bbox(&annotation.bbox).clip(record.width as f32, record.height as f32);
            let Some(class) = data.label_map().class_of(annotation.category_id) else { continue };
            if !annotation.iscrowd && has_object(record, &bbox) {
                let [width, height] = [bbox.width(), bbox.height()].map(f64::from);
                let values = [(width * height).sqrt(), height / width];
                classes[class as usize].push(Measured { image, annotation, values });
            }
        }
    }
    for objects in classes.iter().filter(|objects| objects.len() >= FEWEST) {
        let kinds = [(Problem::SizeOutlier, "size", "px"), (Problem::AspectOutlier, "height / width", "")];
        for (kind, (problem, what, unit)) in kinds.into_iter().enumerate() {
            let logs: Vec<f64> = objects.iter().map(|object| object.values[kind].ln()).collect();
            let middle = median(logs.clone());
            let spread = NORMAL * median(logs.iter().map(|value| (value - middle).abs()).collect());
            let limit = (DEVIATIONS * spread).max(FACTOR.ln());
            for (object, log) in objects.iter().zip(logs) {
                if (log - middle).abs() > limit {
                    let Measured { image, annotation, values } = object;
                    cases.add(set, problem, || {
                        let name = named(*image, opened, annotation);
                        let typical = middle.exp();
                        let text =
                            format!("{name}: {what} {:.3}{unit}, median of the class {typical:.3}{unit}", values[kind]);
                        (text, vec![spot(set, *image, opened, [*annotation])])
                    });
                }
            }
        }
    }
}

/// The median of some values, of which there is at least one.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
