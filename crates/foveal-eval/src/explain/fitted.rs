//! Readings of boxes whose numbers are fitted: factors of resized images, shifts, and padding.
//!
//! Which detection belongs to which object is unknown where boxes are in the wrong place. So every detection is
//! compared with every object of its category in its image: the ratios of their sizes agree for the right pairs and
//! scatter for the others, and then so do the shifts that remain.

use std::collections::HashMap;

use foveal_coco::{CocoDataset, CocoDetection, Image};

use super::reading::Reading;
use crate::image_boxes::{Best, Class, ImageBoxes, images};

/// Width of a bin of the logarithm of a ratio.
const RATIO_BIN: f64 = 0.1;
/// Width of a bin of a shift, as a fraction of the mean side of the detections.
const SHIFT_BIN: f64 = 0.2;
/// Ratio from 1 that counts as another size.
const RESIZED: f64 = 0.04;
/// Shift, as a fraction of the mean side of the detections, that counts as one.
const SHIFTED: f64 = 0.15;
/// Largest number of detections, and of objects, of an image that are compared.
const MOST: usize = 30;
/// Number of peaks that are tested.
const PEAKS: usize = 2;
/// Ratio of the largest longer side to the shorter side of the published resizing to 800 by at most 1333 pixels.
const LONG_LIMIT: f64 = 1333.0 / 800.0;

/// How images were resized to those of the detections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resizing {
    /// All by the same factors.
    Factor,
    /// All to one width and height.
    Fixed,
    /// The longer side to one length, padded at the end or not at all.
    LongSide,
    /// The longer side to one length, padded to a square on both sides.
    Letterbox,
    /// The shorter side to one length.
    ShortSide,
    /// The shorter side to one length, unless the longer side would become longer than 1333/800 of it.
    LimitedShortSide,
}

impl Resizing {
    const ALL: [Self; 6] =
        [Self::Factor, Self::Fixed, Self::LongSide, Self::Letterbox, Self::ShortSide, Self::LimitedShortSide];

    /// The factors of an image for the numbers `s`, which are factors or lengths in pixels.
    fn factors(self, image: &Image, s: [f64; 2]) -> [f64; 2] {
        let (width, height) = (f64::from(image.width.max(1)), f64::from(image.height.max(1)));
        match self {
            Self::Factor => s,
            Self::Fixed => [s[0] / width, s[1] / height],
            Self::LongSide | Self::Letterbox => s.map(|s| s / width.max(height)),
            Self::ShortSide => s.map(|s| s / width.min(height)),
            Self::LimitedShortSide => s.map(|s| (s / width.min(height)).min(s * LONG_LIMIT / width.max(height))),
        }
    }

    /// The padding at the left and the top.
    fn padding(self, image: &Image, s: [f64; 2]) -> [f64; 2] {
        if self != Self::Letterbox {
            return [0.0; 2];
        }
        let factors = self.factors(image, s);
        [(s[0] - factors[0] * f64::from(image.width)) / 2.0, (s[1] - factors[1] * f64::from(image.height)) / 2.0]
    }
}

/// A reading with the key of its cause.
pub(super) struct Fitted {
    pub(super) cause: &'static str,
    pub(super) reading: Reading,
}

/// The readings of boxes of resized, padded or shifted images, and of boxes of another size, that fit best.
pub(super) fn readings(truth: &CocoDataset, detections: &[CocoDetection], class: Class) -> Vec<Fitted> {
    let each = images(truth, detections);
    let mut fitted = Vec::new();
    for resizing in Resizing::ALL {
        for scale in scales(&each, resizing, class) {
            let shift = shift(&each, resizing, scale, class);
            fitted.extend(fit(resizing, scale, shift));
        }
    }
    fitted.extend(about_centers(&each, class));
    fitted
}

/// The pairs of a detection and an object of an image that could belong together.
fn candidates<'a>(entry: &'a ImageBoxes, class: Class) -> impl Iterator<Item = ([f64; 4], [f64; 4])> + 'a {
    let detections = entry.best(Best::TwoAnObject).iter().take(MOST);
    detections.flat_map(move |detection| {
        let objects = entry.objects.iter().take(MOST).filter(move |object| class.fits(detection, object));
        objects.map(|object| (detection.bbox, object.bbox))
    })
}

/// The logarithms of the numbers that turn the size of an object into that of a detection; `None` for empty boxes.
fn ratio(resizing: Resizing, image: &Image, found: [f64; 4], object: [f64; 4]) -> Option<[f64; 2]> {
    let unit = resizing.factors(image, [1.0; 2]);
    let ratio = [found[2] / (object[2] * unit[0]), found[3] / (object[3] * unit[1])].map(f64::ln);
    ratio.iter().all(|v| v.is_finite()).then_some(ratio)
}

/// The most frequent bins of points, each with those around it, the most frequent first. A point counts by its weight.
fn peaks(points: &[([f64; 2], f64)], bin: f64) -> Vec<[f64; 2]> {
    let place = |value: f64| (value / bin).round() as i64;
    let mut counts: HashMap<[i64; 2], f64> = HashMap::new();
    for (point, weight) in points {
        *counts.entry(point.map(place)).or_default() += weight;
    }
    let around = |[x, y]: [i64; 2]| -> f64 {
        let bins = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| [x + dx, y + dy]));
        bins.filter_map(|bin| counts.get(&bin)).sum()
    };
    let mut bins: Vec<([i64; 2], f64)> = counts.keys().map(|&at| (at, around(at))).collect();
    bins.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut kept: Vec<[i64; 2]> = Vec::new();
    for (at, _) in bins {
        if kept.iter().all(|other| (other[0] - at[0]).abs() > 2 || (other[1] - at[1]).abs() > 2) {
            kept.push(at);
        }
        if kept.len() == PEAKS {
            break;
        }
    }
    let near = |at: [i64; 2]| {
        let axis = |axis: usize| {
            let close = points
                .iter()
                .map(|(point, _)| point)
                .filter(|point| (0..2).all(|i| (point[i] - at[i] as f64 * bin).abs() <= 1.5 * bin));
            median(close.map(|point| point[axis]).collect()).unwrap_or(at[axis] as f64 * bin)
        };
        [axis(0), axis(1)]
    };
    kept.into_iter().map(near).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The most frequent numbers that turn the sizes of objects into those of detections.
fn scales(each: &[ImageBoxes], resizing: Resizing, class: Class) -> Vec<[f64; 2]> {
    let mut points = Vec::new();
    for entry in each {
        let weight = 1.0 / entry.objects.len() as f64;
        let pairs = candidates(entry, class).filter_map(|(found, object)| ratio(resizing, entry.image, found, object));
        points.extend(pairs.map(|point| (point, weight)));
    }
    let alike = |[x, y]: [f64; 2]| {
        // Detections are rarely so exact that two nearly equal factors are different ones.
        let [x, y] = [x.exp(), y.exp()];
        if (x / y).ln().abs() < RESIZED { [(x * y).sqrt(); 2] } else { [x, y] }
    };
    let both = resizing == Resizing::Factor || resizing == Resizing::Fixed;
    let found = peaks(&points, RATIO_BIN).into_iter().map(alike);
    // The other ways of resizing have one factor for both directions.
    found.map(|[x, y]| if both { [x, y] } else { [(x * y).sqrt(); 2] }).collect()
}

/// The most frequent shift of detections that have the sizes of resized objects, and the mean side of the detections.
fn shift(each: &[ImageBoxes], resizing: Resizing, scale: [f64; 2], class: Class) -> ([f64; 2], f64) {
    let (mut points, mut sides) = (Vec::new(), 0.0);
    for entry in each {
        let weight = 1.0 / entry.objects.len() as f64;
        let (factors, padding) = (resizing.factors(entry.image, scale), resizing.padding(entry.image, scale));
        for (found, object) in candidates(entry, class) {
            let Some(ratio) = ratio(resizing, entry.image, found, object) else { continue };
            if (0..2).any(|i| (ratio[i] - scale[i].ln()).abs() > 2.0 * RATIO_BIN) {
                continue;
            }
            let center = |bbox: [f64; 4], i: usize| bbox[i] + bbox[i + 2] / 2.0;
            let shift = [0, 1].map(|i| center(found, i) - factors[i] * center(object, i) - padding[i]);
            points.push((shift, weight));
            sides += (found[2] * found[3]).sqrt();
        }
    }
    let side = sides / points.len().max(1) as f64;
    let shift = peaks(&points, (SHIFT_BIN * side).max(1e-9)).first().copied().unwrap_or_default();
    let small = shift.iter().all(|v| v.abs() < SHIFTED * side);
    (if small { [0.0; 2] } else { shift }, side)
}

/// The reading of boxes of resized and shifted images; `None` if both are those of the original image.
fn fit(resizing: Resizing, scale: [f64; 2], (shift, side): ([f64; 2], f64)) -> Option<Fitted> {
    let same = resizing == Resizing::Factor && scale.iter().all(|s| (s - 1.0).abs() < RESIZED);
    let still = shift == [0.0; 2];
    let scale = if same { [1.0; 2] } else { scale };
    let unusable = side <= 0.0 || scale.iter().any(|s| !s.is_finite() || *s <= 0.0);
    if unusable || same && still {
        return None;
    }
    let [x, y] = scale;
    let one = x == y;
    let moved =
        if still { String::new() } else { format!("moved by ({:.0}, {:.0}) pixels and ", -shift[0], -shift[1]) };
    let condition = match resizing {
        Resizing::Factor if same => format!("all boxes are moved by ({:.0}, {:.0}) pixels", -shift[0], -shift[1]),
        Resizing::Factor if one => format!("the boxes are {moved}divided by {x:.3}"),
        Resizing::Factor => format!("the boxes are {moved}divided by {x:.3} in x and {y:.3} in y"),
        Resizing::Fixed => format!("the boxes are {moved}taken for those of images resized to {x:.0}x{y:.0} pixels"),
        Resizing::LongSide => {
            format!("the boxes are {moved}taken for those of images whose longer side was resized to {x:.0} pixels")
        }
        Resizing::Letterbox => format!(
            "the boxes are {moved}taken for those of images resized and padded on both sides to squares of {x:.0} pixels"
        ),
        Resizing::ShortSide => {
            format!("the boxes are {moved}taken for those of images whose shorter side was resized to {x:.0} pixels")
        }
        Resizing::LimitedShortSide => format!(
            "the boxes are {moved}taken for those of images resized to sides of {x:.0} to at most {:.0} pixels",
            x * LONG_LIMIT
        ),
    };
    let map = move |image: &Image, [left, top, width, height]: [f64; 4]| {
        let (factors, padding) = (resizing.factors(image, scale), resizing.padding(image, scale));
        [
            (left - shift[0] - padding[0]) / factors[0],
            (top - shift[1] - padding[1]) / factors[1],
            width / factors[0],
            height / factors[1],
        ]
    };
    let cause = if same {
        "shifted_boxes"
    } else if still && resizing != Resizing::Letterbox {
        "resized_boxes"
    } else {
        "letterbox_boxes"
    };
    Some(Fitted { cause, reading: Reading::of_boxes(condition, Box::new(map)) })
}

/// The reading of boxes that are at the right place but have another size.
fn about_centers(each: &[ImageBoxes], class: Class) -> Option<Fitted> {
    let mut ratios = [Vec::new(), Vec::new()];
    for entry in each {
        for (found, object) in candidates(entry, class) {
            let near = (0..2).all(|i| {
                let apart = found[i] + found[i + 2] / 2.0 - object[i] - object[i + 2] / 2.0;
                apart.abs() <= 0.25 * object[i + 2].max(found[i + 2])
            });
            if near && let Some(ratio) = ratio(Resizing::Factor, entry.image, found, object) {
                (0..2).for_each(|i| ratios[i].push(ratio[i]));
            }
        }
    }
    let [x, y] = ratios.map(|values| median(values).map_or(1.0, f64::exp));
    if (x * y).ln().abs() < 0.2 && (x / y).ln().abs() < 0.2 {
        return None;
    }
    let condition =
        format!("the width of the boxes is divided by {x:.2} and the height by {y:.2} without moving their centers");
    let map = move |_: &Image, [left, top, width, height]: [f64; 4]| {
        let (small, low) = (width / x, height / y);
        [left + (width - small) / 2.0, top + (height - low) / 2.0, small, low]
    };
    Some(Fitted { cause: "box_size", reading: Reading::of_boxes(condition, Box::new(map)) })
}
