//! Fitting of anchors and of the size of the network's input to a data set.

mod input;
mod objects;

use foveal_anchors::{AnchorConfig, Fit, FitOptions, FitScore, fit};

use crate::{DataConfig, Dataset, percentiles};
use objects::{FitObjects, sample_images};

/// Number of objects from which the search for anchors uses a sample of the images. On 10,000 objects, the standard
/// error of a share is at most half a percentage point.
const SAMPLE: usize = 10_000;

/// What [`fit_set`] may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SetFitOptions {
    /// What may change of the anchors.
    pub anchors: FitOptions,
    /// Whether the size of the input may change, and by which factor the pixels of the padded images may grow then, 1
    /// or more; `None` to keep the size.
    pub max_pixels: Option<f64>,
    /// Seed of the samples of images, which are drawn from data sets with more than 10,000 objects.
    pub seed: u64,
}

/// Anchors and a size of the input that fit a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetFit {
    /// The settings of the data with the size of the input to use, in `min_size` and `max_size` or `fixed_size`.
    pub data: DataConfig,
    /// The anchors to use, with the use of the levels. Its scores are those at the size to use, of the objects that are
    /// trained at that size.
    pub fit: Fit,
    /// The score of the present anchors at the present size on all objects. Objects that resizing makes smaller than
    /// `data.min_box` count as objects without an anchor.
    pub before: FitScore,
    /// The score of the anchors to use at the size to use on all objects, counted as for `before`.
    pub after: FitScore,
    /// Number of objects of the sample that the anchors were searched with.
    pub sampled: usize,
    /// Height divided by width of the objects at the size to use: 10th percentile, median, 90th percentile.
    pub ratios: [f32; 3],
    /// Number of pixels of the padded images at the size to use, divided by that at the present size.
    pub pixels: f64,
}

/// Fits anchors, and the size of the network's input if the options allow it, to the objects of a data set as they are
/// trained without augmentation. No image is read. See [`fit`] for the objective and the search.
///
/// The result is never worse than the present settings, except if the options give other numbers of scales or ratios.
/// It depends on the arguments alone.
pub fn fit_set(dataset: &Dataset, data: &DataConfig, anchors: &AnchorConfig, options: &SetFitOptions) -> SetFit {
    let present = FitObjects::of(dataset.records(), data);
    let before = FitScore::of(&present.objects, anchors, options.anchors.iou).with_missing(present.too_small);
    let choices = match options.max_pixels {
        Some(max) => input::choices(dataset, data, anchors, &options.anchors, (max, options.seed)),
        None => vec![data.clone()],
    };
    let last = choices.len() - 1;
    let fitted = |config: &DataConfig| fit_at(dataset, config, anchors, options, (&present, before));
    let good = choices[..last].iter().map(fitted).find(|found| found.after.is_gain_over(&before));
    good.unwrap_or_else(|| fitted(&choices[last]))
}

/// Fits anchors to the objects at one size of the input. `present` are the objects at the present size and their score.
fn fit_at(
    dataset: &Dataset,
    config: &DataConfig,
    anchors: &AnchorConfig,
    options: &SetFitOptions,
    (present, before): (&FitObjects, FitScore),
) -> SetFit {
    let all = FitObjects::of(dataset.records(), config);
    let images = sample_images(dataset, SAMPLE, options.seed);
    let sample = FitObjects::of(images.iter().map(|image| dataset.record(*image)), config);
    let fit = fit(&all.objects, &sample.objects, anchors, &options.anchors);
    let ratio = all.objects.iter().map(|object| object.bbox.height() / object.bbox.width());
    SetFit {
        data: config.clone(),
        before,
        after: fit.after.with_missing(all.too_small),
        fit,
        sampled: sample.objects.len(),
        ratios: percentiles(ratio, [10, 50, 90]),
        pixels: all.pixels as f64 / present.pixels.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use foveal_anchors::MatcherConfig;

    const ALL: SetFitOptions = SetFitOptions {
        anchors: FitOptions { sizes: true, ratios: true, scales: true, scale_count: None, ratio_count: None, iou: 0.5 },
        max_pixels: None,
        seed: 1,
    };

    /// A small version of `configs/smallobjects.toml`, with its anchors.
    fn small_objects() -> (Dataset, DataConfig, AnchorConfig) {
        let mut data = DataConfig { source: Source::Shapes, min_size: 384, max_size: 384, ..DataConfig::default() };
        data.shapes.count = 30;
        data.shapes.size = [384, 384];
        data.shapes.max_objects = 20;
        data.shapes.min_object = 6.0;
        data.shapes.max_object = 0.0625;
        let anchors = AnchorConfig { base_sizes: vec![8.0, 16.0, 32.0, 64.0, 128.0], ..AnchorConfig::default() };
        (data.open_train().unwrap().dataset, data, anchors)
    }

    #[test]
    fn more_small_objects_are_covered() {
        let (dataset, data, anchors) = small_objects();
        let found = fit_set(&dataset, &data, &anchors, &ALL);
        let coverage = |anchors| crate::SetCoverage::new(&dataset, &data, anchors, &MatcherConfig::default()).all;
        let (before, after) = (coverage(&anchors), coverage(&found.fit.anchors));
        // The scores are those that all anchors over the images give.
        assert_eq!((before.objects, before.covered), (found.before.objects, found.before.covered));
        assert_eq!(after.covered, found.after.covered);
        assert!((f64::from(after.mean_best_iou) - found.after.mean_best_iou).abs() < 1e-5);
        assert!(after.covered > before.covered, "{found:?}");
        assert_eq!((found.data, found.pixels), (data, 1.0));
    }

    #[test]
    fn a_larger_input_covers_small_objects() {
        let (dataset, data, _) = small_objects();
        // Anchors for larger objects, which may not change.
        let anchors = AnchorConfig { base_sizes: vec![16.0, 32.0, 64.0, 128.0, 256.0], ..AnchorConfig::default() };
        let none = FitOptions { sizes: false, ratios: false, scales: false, ..ALL.anchors };
        let options = SetFitOptions { anchors: none, max_pixels: Some(2.0), ..ALL };
        let found = fit_set(&dataset, &data, &anchors, &options);
        assert!(found.data.min_size > 384 && found.data.min_size.is_multiple_of(32), "{found:?}");
        assert!(found.pixels > 1.0 && found.pixels <= 2.0 && found.after.share() > found.before.share(), "{found:?}");
        assert_eq!(found.fit.anchors, anchors);
        // Without more pixels nothing is gained.
        let same = fit_set(&dataset, &data, &anchors, &SetFitOptions { max_pixels: Some(1.0), ..options });
        assert_eq!((&same.data, same.after), (&data, same.before));
    }
}
