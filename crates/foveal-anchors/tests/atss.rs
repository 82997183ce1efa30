//! The matcher of `kind = "atss"` against its definition, computed with a full sort of all anchors, and against the
//! paper's formulas in torch (scripts/reference/atss.py).

use std::time::{Duration, Instant};

use foveal_anchors::{AnchorConfig, Anchors, Match, MatcherConfig, MatcherKind, Rounding, grid_sizes};
use foveal_boxes::{BBox, iou};
use proptest::prelude::*;
use serde::Deserialize;

/// One square anchor at each location, as in arXiv 1912.02424.
fn single(rounding: Rounding) -> AnchorConfig {
    AnchorConfig { scales: 1, ratios: vec![1.0], rounding, ..AnchorConfig::default() }
}

fn atss(candidates: usize) -> MatcherConfig {
    MatcherConfig { kind: MatcherKind::Atss, candidates, ..MatcherConfig::default() }
}

fn over(config: &AnchorConfig, height: usize, width: usize) -> Anchors {
    config.anchors(height, width, &grid_sizes(height, width))
}

/// Algorithm 1 of arXiv 1912.02424, with all anchors of a level sorted by the distance of their centres and their
/// index.
fn oracle(candidates: usize, anchors: &Anchors, objects: &[BBox]) -> Vec<Match> {
    let mut best = vec![(0.0, None); anchors.boxes.len()];
    for (index, object) in objects.iter().enumerate() {
        let mut pool = Vec::new();
        let middle = |low: f32, high: f32| (f64::from(low) + f64::from(high)) / 2.0;
        let [x, y] = [middle(object.x1, object.x2), middle(object.y1, object.y2)];
        for (level, grid) in anchors.grids.iter().enumerate() {
            let first = anchors.level_offsets[level];
            let center = |anchor: usize| {
                let location = (anchor - first) / anchors.anchors_per_location;
                grid.center(location / grid.size.width, location % grid.size.width)
            };
            let square = |anchor: usize| {
                let [cx, cy] = center(anchor).map(f64::from);
                (cx - x) * (cx - x) + (cy - y) * (cy - y)
            };
            let mut all: Vec<usize> = (first..anchors.level_offsets[level + 1]).collect();
            all.sort_by(|a, b| square(*a).total_cmp(&square(*b)));
            pool.extend(all.into_iter().take(candidates).map(|a| (a, iou(object, &anchors.boxes[a]), center(a))));
        }
        let count = pool.len() as f64;
        let mean = pool.iter().map(|(_, iou, _)| f64::from(*iou)).sum::<f64>() / count;
        let squares: f64 = pool.iter().map(|(_, iou, _)| (f64::from(*iou) - mean).powi(2)).sum();
        let threshold = mean + if pool.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        for (anchor, iou, [cx, cy]) in pool {
            let sides = [cx - object.x1, cy - object.y1, object.x2 - cx, object.y2 - cy];
            let inside = sides.into_iter().all(|side| side > 0.01);
            if inside && f64::from(iou) >= threshold && iou > best[anchor].0 {
                best[anchor] = (iou, Some(index as u32));
            }
        }
    }
    best.into_iter().map(|(_, object)| object.map_or(Match::Background, Match::Object)).collect()
}

/// A box anywhere on an image of 320x256 pixels or outside it, on a raster of half a pixel so that equal distances and
/// equal IoUs are common, or on no raster.
fn object() -> impl Strategy<Value = BBox> {
    let raster = (-80i16..720, -80i16..600, 1u16..500, 1u16..400)
        .prop_map(|(x, y, w, h)| (f32::from(x) / 2.0, f32::from(y) / 2.0, f32::from(w) / 2.0, f32::from(h) / 2.0));
    let free = (-60f32..360.0, -60f32..300.0, 0.1f32..300.0, 0.1f32..250.0);
    prop_oneof![raster, free].prop_map(|(x, y, w, h)| BBox::new(x, y, x + w, y + h))
}

proptest! {
    #[test]
    fn the_search_on_the_grid_equals_a_full_sort(
        objects in prop::collection::vec(object(), 0..8),
        candidates in prop_oneof![1usize..20, Just(9), Just(60), Just(usize::MAX)],
        torchvision: bool,
        several: bool,
        rows in 1usize..9,
        columns in 1usize..11,
    ) {
        let rounding = if torchvision { Rounding::Torchvision } else { Rounding::Exact };
        let config = AnchorConfig { rounding, ..if several { AnchorConfig::default() } else { single(rounding) } };
        let anchors = over(&config, rows * 32, columns * 32);
        let found = atss(candidates).assign(&anchors, &objects, &[]);
        prop_assert_eq!(found, oracle(candidates, &anchors, &objects));
    }
}

/// An image of the fixture.
#[derive(Deserialize)]
struct Image {
    /// Height and width of the padded image in pixels.
    size: [usize; 2],
    candidates: usize,
    objects: Vec<[f32; 4]>,
    /// Each positive anchor with its object.
    positives: Vec<[u32; 2]>,
}

#[test]
fn positives_are_those_of_the_formulas_in_torch() {
    let images: Vec<Image> = serde_json::from_str(include_str!("fixtures/atss.json")).expect("the fixture is valid");
    assert_eq!(images.len(), 200);
    let (mut positives, mut lost) = (0, 0);
    for (number, image) in images.iter().enumerate() {
        let [height, width] = image.size;
        let anchors = over(&single(Rounding::Exact), height, width);
        let objects: Vec<BBox> = image.objects.iter().map(|b| BBox::new(b[0], b[1], b[2], b[3])).collect();
        let matches = atss(image.candidates).assign(&anchors, &objects, &[]);
        let found: Vec<[u32; 2]> = (0..)
            .zip(&matches)
            .filter_map(|(anchor, matched)| match matched {
                Match::Object(object) => Some([anchor, *object]),
                Match::Background => None,
                Match::Ignore => panic!("there is no crowd region"),
            })
            .collect();
        assert_eq!(found, image.positives, "image {number}");
        positives += found.len();
        lost += (0..objects.len() as u32).filter(|o| found.iter().all(|[_, object]| object != o)).count();
    }
    assert!(positives > 1000 && lost > 0, "{positives} positives, {lost} objects without an anchor");
}

/// Shortest time of several calls: other programs on the machine only make a call longer.
fn shortest(anchors: &Anchors, matcher: &MatcherConfig, objects: &[BBox]) -> Duration {
    let call = |_| {
        let started = Instant::now();
        let matches = matcher.assign(anchors, objects, &[]);
        let time = started.elapsed();
        assert!(matches.iter().any(|m| matches!(m, Match::Object(_))));
        time
    };
    (0..20).map(call).min().expect("20 calls")
}

/// Prints how long 100,000 anchors with 100 objects take on one thread.
#[test]
#[ignore = "a measurement; it needs an idle core"]
fn a_hundred_thousand_anchors_and_a_hundred_objects_take_less_than_ten_milliseconds() {
    // 100,620 locations with one anchor each, and 11,256 with nine.
    for (config, height, width) in [(single(Rounding::Exact), 1888, 2560), (AnchorConfig::default(), 704, 768)] {
        let anchors = over(&config, height, width);
        let object = |i: usize| {
            let part = |k: usize, n: usize| (i * k % n) as f32 / n as f32;
            let (w, h) = (8.0 + 300.0 * part(7, 41), 8.0 + 300.0 * part(11, 37));
            let (x, y) = (part(37, 101) * (width as f32 - w), part(53, 103) * (height as f32 - h));
            BBox::new(x, y, x + w, y + h)
        };
        let objects: Vec<BBox> = (0..100).map(object).collect();
        assert!(anchors.boxes.len() >= 100_000, "{} anchors", anchors.boxes.len());
        let time = shortest(&anchors, &atss(9), &objects);
        let by_iou = shortest(&anchors, &MatcherConfig::default(), &objects);
        println!("{} anchors, {} objects: atss {time:.3?}, iou {by_iou:.3?}", anchors.boxes.len(), objects.len());
        assert!(time < Duration::from_millis(10), "{time:?}");
    }
}
