//! Shares of the kinds of errors (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors",
//! arXiv 2008.08115), as the reference implementation `tidecv` 1.0.1 computes them for boxes.
//!
//! Differences to `tidecv`: a detection on a crowd region is no error; classes without objects are left out of the
//! mean, as in COCO's metrics, so that `ap50` is COCO's AP50; the limit of 100 detections holds for each image and
//! category. hotcoco's TIDE is not used, because it counts a detection that overlaps a crowd region too little as badly
//! located.

use serde::Serialize;

use super::scene::{MATCH_IOU, Scene, Scenes};
use crate::resample::average_precision;

/// Largest IoU with an object at which a detection counts as background (TIDE, section 2.2).
const BACKGROUND_IOU: f64 = 0.1;

/// The kinds of errors in the order of the paper, as indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Class,
    Location,
    Both,
    Duplicate,
    Background,
}

const KINDS: [Kind; 5] = [Kind::Class, Kind::Location, Kind::Both, Kind::Duplicate, Kind::Background];

/// How many errors of each kind there are, and how much AP50 they cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tide {
    /// AP50 with all errors, as a fraction: the mean over the classes with objects.
    pub ap50: f64,
    /// Right place (IoU of at least 0.5 with an object), but another class.
    pub class: TideError,
    /// Right class, but an IoU from 0.1 to 0.5 with the object.
    pub location: TideError,
    /// Another class, and an IoU from 0.1 to 0.5 with the object.
    pub both: TideError,
    /// Right class and place, but a detection with a higher score has found the object.
    pub duplicate: TideError,
    /// An IoU of at most 0.1 with every object.
    pub background: TideError,
    /// Objects that no detection has found and that no corrected class or location would find.
    pub missed: TideError,
}

/// The errors of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TideError {
    /// Number of errors.
    pub count: usize,
    /// By how much AP50 would rise if only these errors were corrected, as a fraction.
    pub delta_ap: f64,
    /// Fraction of the sum of `delta_ap` over the six kinds; 0 if the sum is 0.
    pub share: f64,
}

/// A detection that counts, as a point of the precision-recall curves.
struct Point {
    class: usize,
    score: f64,
    /// The kind of error; `None` for a true positive.
    error: Option<Kind>,
    /// The class in which the detection would be a true positive if its error were corrected.
    corrected: Option<usize>,
}

/// The points of one image, and the class of each object and of each missed object.
struct Parts {
    points: Vec<Point>,
    objects: Vec<usize>,
    missed: Vec<usize>,
}

impl Tide {
    /// Computes the shares of a data set. `recalls` are the recall thresholds of COCO's AP.
    pub(crate) fn new(scenes: &Scenes<'_>, recalls: &[f64]) -> Self {
        let classes = scenes.categories.len();
        let (mut points, mut objects, mut missed) = (Vec::new(), vec![0; classes], vec![0; classes]);
        for parts in scenes.map(classify) {
            points.extend(parts.points);
            parts.objects.into_iter().for_each(|class| objects[class] += 1);
            parts.missed.into_iter().for_each(|class| missed[class] += 1);
        }
        points.sort_by(|a, b| b.score.total_cmp(&a.score));
        let ap = |left: &[usize], outcome: &dyn Fn(&Point) -> Option<(usize, bool)>| {
            mean_ap(&points, &objects, left, recalls, outcome)
        };
        let as_found = |point: &Point| Some((point.class, point.error.is_none()));
        let ap50 = ap(&objects, &as_found);
        let of_kind = |kind: Kind| {
            let corrected = |point: &Point| match point.error {
                Some(error) if error == kind => point.corrected.map(|class| (class, true)),
                _ => as_found(point),
            };
            let count = points.iter().filter(|point| point.error == Some(kind)).count();
            TideError { count, delta_ap: (ap(&objects, &corrected) - ap50).max(0.0), share: 0.0 }
        };
        let [class, location, both, duplicate, background] = KINDS.map(of_kind);
        let left: Vec<usize> = objects.iter().zip(&missed).map(|(all, missed)| all - missed).collect();
        let delta_ap = (ap(&left, &as_found) - ap50).max(0.0);
        let missed = TideError { count: missed.iter().sum(), delta_ap, share: 0.0 };
        let mut tide = Self { ap50, class, location, both, duplicate, background, missed };
        let all: f64 = tide.errors().map(|(_, error)| error.delta_ap).iter().sum();
        for error in [
            &mut tide.class,
            &mut tide.location,
            &mut tide.both,
            &mut tide.duplicate,
            &mut tide.background,
            &mut tide.missed,
        ] {
            error.share = if all > 0.0 { error.delta_ap / all } else { 0.0 };
        }
        tide
    }

    /// The six kinds with their keys in JSON.
    pub fn errors(&self) -> [(&'static str, TideError); 6] {
        [
            ("class", self.class),
            ("location", self.location),
            ("both", self.both),
            ("duplicate", self.duplicate),
            ("background", self.background),
            ("missed", self.missed),
        ]
    }
}

/// Sorts the detections of one image into true positives and kinds of errors.
fn classify(scene: &Scene) -> Parts {
    let mut points = Vec::new();
    // For each object, the point with the highest score that would find it if corrected. The detections are in
    // descending order of score, so it is the first one.
    let mut finders = vec![None; scene.objects.len()];
    for (index, found) in scene.found.iter().enumerate().filter(|(_, found)| !found.on_crowd) {
        let mut point = Point { class: found.class, score: found.score, error: None, corrected: None };
        if !found.hit {
            let (kind, object) = kind_of(scene, index);
            point.error = Some(kind);
            let is_free = |object: &usize| !scene.objects[*object].used && finders[*object].is_none();
            if let Some(object) = object.filter(is_free) {
                finders[object] = Some(index);
                point.corrected = Some(scene.objects[object].class);
            }
        }
        points.push(point);
    }
    let real = || scene.objects.iter().enumerate().filter(|(_, object)| !object.crowd);
    let missed = real().filter(|(index, object)| !object.used && finders[*index].is_none());
    Parts { points, objects: real().map(|(_, o)| o.class).collect(), missed: missed.map(|(_, o)| o.class).collect() }
}

/// The kind of error of a wrong detection, and the object that it would find if its location or class were corrected.
/// The order of the conditions is that of `tidecv`.
fn kind_of(scene: &Scene, detection: usize) -> (Kind, Option<usize>) {
    let class = scene.found[detection].class;
    let same = scene.best(detection, |object| object.class == class);
    let other = scene.best(detection, |object| object.class != class);
    let high = |best: Option<(usize, f64)>| best.map_or(0.0, |(_, iou)| iou);
    if (BACKGROUND_IOU..=MATCH_IOU).contains(&high(same)) {
        return (Kind::Location, same.map(|(object, _)| object));
    }
    if high(other) >= MATCH_IOU {
        return (Kind::Class, other.map(|(object, _)| object));
    }
    if high(scene.best(detection, |object| object.class == class && object.used)) >= MATCH_IOU {
        return (Kind::Duplicate, None);
    }
    if high(same).max(high(other)) <= BACKGROUND_IOU { (Kind::Background, None) } else { (Kind::Both, None) }
}

/// The mean AP50 over the classes that have objects, with `left` objects in each class. `points` are in descending
/// order of score, and `outcome` gives the class of each and whether it is a true positive, or `None` to leave it out.
/// A class that has neither objects left nor points is left out of the mean.
fn mean_ap(
    points: &[Point],
    objects: &[usize],
    left: &[usize],
    recalls: &[f64],
    outcome: &dyn Fn(&Point) -> Option<(usize, bool)>,
) -> f64 {
    let mut curves: Vec<Vec<(f64, f64)>> = vec![Vec::new(); objects.len()];
    let mut counts = vec![(0.0f64, 0.0f64); objects.len()];
    for (class, hit) in points.iter().filter_map(outcome) {
        let (hits, all) = &mut counts[class];
        *all += 1.0;
        if hit {
            *hits += 1.0;
            curves[class].push((*hits, *hits / *all));
        }
    }
    let (mut sum, mut classes) = (0.0, 0);
    for (class, curve) in curves.iter_mut().enumerate() {
        if objects[class] == 0 || (left[class] == 0 && counts[class].1 == 0.0) {
            continue;
        }
        classes += 1;
        if left[class] > 0 {
            sum += average_precision(curve, left[class], recalls);
        }
    }
    if classes == 0 { 0.0 } else { sum / f64::from(classes) }
}
