//! Fitting of anchors to the sizes of objects.

mod kmeans;
mod objective;
mod search;

use foveal_boxes::BBox;
use serde::Serialize;

use crate::{AnchorConfig, LEVELS};
use objective::{Best, Objective, Scored};
use search::Search;

/// Largest number of scales and of ratios that the search chooses by itself.
const MAX_COUNT: usize = 32;

/// Smallest gain of the share of covered objects for which the search changes the numbers of scales and ratios.
const COUNTS_GAIN: f64 = 0.001;

/// Smallest gain of the mean highest IoU that counts as an improvement if the share of covered objects stays the same.
const MEAN_GAIN: f64 = 0.0005;

/// An object as the network sees it: its box in the resized image, and the size of the padded image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitObject {
    /// Box of the object in pixels of the padded image.
    pub bbox: BBox,
    /// Height and width of the padded image in pixels.
    pub padded: [usize; 2],
}

/// What [`fit`] may change, and what it aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// Whether the base sizes of the levels may change.
    pub sizes: bool,
    /// Whether the ratios may change.
    pub ratios: bool,
    /// Whether the number of scales may change. If `scale_count` and `ratio_count` are `None`, it changes together with
    /// the number of ratios, so that the number of anchors per location stays the same. It then needs `ratios`.
    pub scales: bool,
    /// The number of scales to use, from 1 to 32; `None` to keep or choose it.
    pub scale_count: Option<usize>,
    /// The number of ratios to use, from 1 to 32; `None` to keep or choose it. It needs `ratios` unless it is the
    /// present number.
    pub ratio_count: Option<usize>,
    /// The IoU from which an object counts as covered by its best anchor, above 0 and at most 1.
    pub iou: f32,
}

/// How well the best anchors overlap objects. A score is better than another if more objects are covered, or as many
/// with a higher mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FitScore {
    /// Number of objects.
    pub objects: usize,
    /// Number of objects whose highest IoU with an anchor is at least [`FitOptions::iou`].
    pub covered: usize,
    /// Mean over the objects of the highest IoU with an anchor, from 0 to 1; 0 without objects.
    pub mean_best_iou: f64,
}

/// Numbers of scales and ratios, whose product is the number of anchors per location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnchorCounts {
    pub(crate) scales: usize,
    pub(crate) ratios: usize,
}

/// The objects whose best anchor belongs to one pyramid level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LevelUse {
    /// Number of objects.
    pub objects: usize,
    /// Median of the square roots of the areas of their boxes in pixels; 0 without objects.
    pub median_side: f32,
}

/// The result of [`fit`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The anchors to use: those found, or the present ones if nothing better was found.
    pub anchors: AnchorConfig,
    /// The score of the present anchors on all objects.
    pub before: FitScore,
    /// The score of [`Fit::anchors`] on all objects.
    pub after: FitScore,
    /// The use of each level by [`Fit::anchors`], P3 first: `[levels]`.
    pub levels: [LevelUse; LEVELS],
    /// Number of anchor configurations that the search scored.
    pub tried: usize,
}

impl FitScore {
    /// Scores anchors by the highest IoUs of the objects with any of them. `iou` is that from which an object is
    /// covered.
    ///
    /// The anchors are those over the padded images of the objects, at their positions, as [`AnchorConfig::anchors`]
    /// returns them. The cost is proportional to the number of objects times the number of anchor shapes.
    pub fn of(objects: &[FitObject], anchors: &AnchorConfig, iou: f32) -> Self {
        Objective::new(objects, anchors, iou).score(anchors)
    }

    fn of_ious(ious: impl IntoIterator<Item = f32>, threshold: f32) -> Self {
        let mut score = Self::default();
        let mut sum = 0.0;
        for iou in ious {
            score.objects += 1;
            score.covered += usize::from(iou >= threshold);
            sum += f64::from(iou);
        }
        score.mean_best_iou = sum / score.objects.max(1) as f64;
        score
    }

    /// The score of these objects and of others that no anchor covers or overlaps.
    pub fn with_missing(self, missing: usize) -> Self {
        let objects = self.objects + missing;
        let mean_best_iou = self.mean_best_iou * self.objects as f64 / objects.max(1) as f64;
        Self { objects, mean_best_iou, ..self }
    }

    /// The share of the objects that are covered, from 0 to 1; 0 without objects.
    pub fn share(&self) -> f64 {
        self.covered as f64 / self.objects.max(1) as f64
    }

    /// Whether the share of covered objects is higher than that of `other`, or equal with a higher mean IoU.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let (share, others) = (self.share(), other.share());
        share > others || (share == others && self.mean_best_iou > other.mean_best_iou)
    }

    /// Whether the share of covered objects is higher than that of `other`, or equal with a mean IoU that is higher by
    /// at least 0.0005. Less is no reason to change a configuration.
    pub fn is_gain_over(&self, other: &Self) -> bool {
        let (share, others) = (self.share(), other.share());
        share > others || (share == others && self.mean_best_iou >= other.mean_best_iou + MEAN_GAIN)
    }
}

impl AnchorCounts {
    /// The numbers of a configuration.
    pub(crate) fn of(config: &AnchorConfig) -> Self {
        Self { scales: config.scales, ratios: config.ratios.len() }
    }
}

impl FitOptions {
    /// Whether the numbers of scales and ratios are given.
    fn gives_counts(&self) -> bool {
        self.scale_count.is_some() || self.ratio_count.is_some()
    }

    /// The numbers of scales and ratios to search with: those given, or the present ones first, followed by all others
    /// with the same product.
    fn counts(&self, present: AnchorCounts) -> Vec<AnchorCounts> {
        if self.gives_counts() {
            let scales = self.scale_count.unwrap_or(present.scales);
            return vec![AnchorCounts { scales, ratios: self.ratio_count.unwrap_or(present.ratios) }];
        }
        let mut counts = vec![present];
        if self.scales && self.ratios {
            let per_location = present.scales * present.ratios;
            let divisors = (1..=MAX_COUNT).filter(|scales| per_location.is_multiple_of(*scales));
            let others = divisors.map(|scales| AnchorCounts { scales, ratios: per_location / scales });
            counts.extend(others.filter(|other| other.ratios <= MAX_COUNT && *other != present));
        }
        counts
    }
}

/// Fits the sizes, ratios and scales of anchors to objects, so that the best anchor of as many objects as possible has
/// an IoU of at least [`FitOptions::iou`]; among anchors that are equal in this, the mean of the highest IoUs decides.
///
/// The search starts from the present anchors and from k-means with the distance 1 - IoU (Redmon and Farhadi, arXiv
/// 1612.08242, section 2): sizes from clusters of widths and heights, one for each level, and ratios from clusters of
/// shapes with the same area. It then changes one value at a time, and all sizes or ratios together, by steps from half
/// an octave down to a 32nd of one, as long as the score on `sample` rises. Anchors are compared at their positions
/// over the padded images. The result is a function of the arguments.
///
/// The base size of a level stays from 1 to 8 strides of the level, unless the present one lies outside. P3 has no
/// smallest and P7 no largest size. Sizes ascend with the levels, and have three significant digits as the ratios do.
/// Values that make no difference keep their present value.
///
/// The result is never worse than the present anchors on `objects`, except if the options give numbers of scales or
/// ratios that are not the present ones.
///
/// # Shapes
/// - objects: `[objects]`
/// - sample, the objects to search with, which may be `objects` itself: `[sampled objects]`
///
/// # Panics
/// If `present` is invalid, or the options give a number of scales or ratios outside 1 to 32.
pub fn fit(objects: &[FitObject], sample: &[FitObject], present: &AnchorConfig, options: &FitOptions) -> Fit {
    let objective = Objective::new(sample, present, options.iou);
    let mut search = Search::new(&objective, present, options);
    let mut found: Option<Scored> = None;
    for counts in options.counts(AnchorCounts::of(present)) {
        if let Some(other) = search.run(counts) {
            let is_gain = |found: &Scored| other.score.share() >= found.score.share() + COUNTS_GAIN;
            if found.as_ref().is_none_or(is_gain) {
                found = Some(other);
            }
        }
    }
    let tried = search.tried;
    let all = Objective::new(objects, present, options.iou);
    let before = all.score(present);
    let mut anchors = found.map_or_else(|| present.clone(), |found| found.config);
    let mut after = all.score(&anchors);
    let asked = options.gives_counts() && AnchorCounts::of(&anchors) != AnchorCounts::of(present);
    if !asked && !after.is_gain_over(&before) {
        (anchors, after) = (present.clone(), before);
    }
    let levels = level_use(objects, &all.best(&anchors));
    Fit { anchors, before, after, levels, tried }
}

/// The use of each level by objects with these best anchors.
fn level_use(objects: &[FitObject], best: &[Best]) -> [LevelUse; LEVELS] {
    std::array::from_fn(|level| {
        let of_level = objects.iter().zip(best).filter(|(_, best)| best.level == Some(level));
        let mut sides: Vec<f32> = of_level.map(|(object, _)| object.bbox.area().sqrt()).collect();
        sides.sort_by(f32::total_cmp);
        LevelUse { objects: sides.len(), median_side: sides.get(sides.len() / 2).copied().unwrap_or(0.0) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects of one shape at many positions in an image of 256 by 256 pixels.
    fn objects(width: f32, height: f32) -> impl Iterator<Item = FitObject> {
        (0..60).map(move |i| {
            let (x, y) = ((i * 37 % 101) as f32 * 1.3, (i * 53 % 97) as f32 * 1.1);
            FitObject { bbox: BBox::new(x, y, x + width, y + height), padded: [256, 256] }
        })
    }

    const ALL: FitOptions =
        FitOptions { sizes: true, ratios: true, scales: true, scale_count: None, ratio_count: None, iou: 0.5 };

    #[test]
    fn small_flat_objects_get_small_flat_anchors() {
        let objects: Vec<FitObject> = objects(18.0, 6.0).chain(objects(60.0, 30.0)).collect();
        let present = AnchorConfig::default();
        let fit = fit(&objects, &objects, &present, &ALL);
        assert_eq!(fit.before, FitScore::of(&objects, &present, 0.5));
        assert_eq!(fit.after, FitScore::of(&objects, &fit.anchors, 0.5));
        assert!(fit.after.share() > fit.before.share() + 0.2, "{fit:?}");
        assert!(fit.anchors.base_sizes[0] < 20.0 && fit.anchors.ratios.iter().any(|r| *r < 0.5), "{fit:?}");
        // No object needs the upper levels, so they keep their sizes.
        assert_eq!(fit.anchors.base_sizes[3..], [256.0, 512.0]);
        assert_eq!(fit.anchors.anchors_per_location(), 9);
        assert_eq!(fit.levels.iter().map(|level| level.objects).sum::<usize>(), 120);
    }

    #[test]
    fn only_the_selected_values_change() {
        let objects: Vec<FitObject> = objects(18.0, 6.0).chain(objects(100.0, 25.0)).collect();
        let present = AnchorConfig::default();
        let of = |options: FitOptions| fit(&objects, &objects, &present, &options).anchors;
        let sizes = of(FitOptions { ratios: false, scales: false, ..ALL });
        assert_eq!((&sizes.ratios, sizes.scales), (&present.ratios, 3));
        assert_ne!(sizes.base_sizes, present.base_sizes);
        let ratios = of(FitOptions { sizes: false, scales: false, ..ALL });
        assert_eq!((&ratios.base_sizes, ratios.scales, ratios.ratios.len()), (&present.base_sizes, 3, 3));
        assert_ne!(ratios.ratios, present.ratios);
        let none = of(FitOptions { sizes: false, ratios: false, scales: false, ..ALL });
        assert_eq!(none, present);
        let given = of(FitOptions { scale_count: Some(2), ratio_count: Some(1), ..ALL });
        assert_eq!((given.scales, given.ratios.len()), (2, 1));
    }

    #[test]
    fn counts_keep_their_product_unless_they_are_given() {
        let pairs = |options: FitOptions, scales, ratios| -> Vec<(usize, usize)> {
            options.counts(AnchorCounts { scales, ratios }).iter().map(|c| (c.scales, c.ratios)).collect()
        };
        assert_eq!(pairs(ALL, 3, 3), [(3, 3), (1, 9), (9, 1)]);
        assert_eq!(pairs(ALL, 1, 1), [(1, 1)]);
        // 64 ratios would be too many.
        assert_eq!(pairs(ALL, 32, 2), [(32, 2), (2, 32), (4, 16), (8, 8), (16, 4)]);
        assert_eq!(pairs(FitOptions { ratios: false, ..ALL }, 3, 3), [(3, 3)]);
        assert_eq!(pairs(FitOptions { scale_count: Some(2), ..ALL }, 3, 3), [(2, 3)]);
    }

    #[test]
    fn without_objects_nothing_changes() {
        let present = AnchorConfig::default();
        let fit = fit(&[], &[], &present, &ALL);
        assert_eq!((fit.anchors, fit.after), (present, FitScore::default()));
    }

    #[test]
    fn scores_are_compared_by_share_and_then_by_mean() {
        let score = |covered, mean_best_iou| FitScore { objects: 10, covered, mean_best_iou };
        assert!(score(6, 0.3).is_better_than(&score(5, 0.9)));
        assert!(score(5, 0.51).is_better_than(&score(5, 0.5)) && !score(5, 0.5).is_better_than(&score(5, 0.5)));
        assert!(!score(5, 0.5001).is_gain_over(&score(5, 0.5)) && score(5, 0.501).is_gain_over(&score(5, 0.5)));
        // Ten objects with 5 covered and a mean of 0.5, and ten that nothing overlaps.
        assert_eq!(score(5, 0.5).with_missing(10), FitScore { objects: 20, covered: 5, mean_best_iou: 0.25 });
    }
}
