//! The choice of the size of the network's input (`data.min_size` and `data.max_size`, or `data.fixed_size`).

use foveal_anchors::{AnchorConfig, FitOptions, FitScore, fit};
use foveal_image::MAX_SIDE;

use super::objects::{FitObjects, sample_images};
use crate::{DataConfig, Dataset};

/// Number of pixels that new sizes are multiples of, as the padding needs.
const MULTIPLE: u32 = 32;

/// Smallest factor of the sides.
const MIN_FACTOR: f64 = 0.5;

/// Most sizes that are compared, without the present one.
const MOST_SIZES: usize = 12;

/// Number of objects with which the sizes are compared.
const SAMPLE: usize = 2000;

/// Difference of the share of covered objects for which a size that is nearer to the present one is preferred.
const TOLERANCE: f64 = 0.005;

/// A size of the input with the score that anchors reach with it.
struct Candidate {
    config: DataConfig,
    /// Factor of the sides.
    factor: f64,
    score: FitScore,
}

/// The sizes of the input that are worth a fit of the anchors to all objects, the preferred one first and the present
/// one last. No size has more than `max_pixels` times the pixels of the present padded images.
///
/// Each size is scored with anchors that are fitted to a sample. The first choice is, among the sizes whose share of
/// covered objects is at most 0.005 below the highest, the one nearest to the present size; the second is the size with
/// the highest score.
pub(super) fn choices(
    dataset: &Dataset,
    config: &DataConfig,
    anchors: &AnchorConfig,
    options: &FitOptions,
    (max_pixels, seed): (f64, u64),
) -> Vec<DataConfig> {
    let images = sample_images(dataset, SAMPLE, seed);
    let records = || images.iter().map(|image| dataset.record(*image));
    let present = FitObjects::of(records(), config).pixels;
    let mut candidates = Vec::new();
    for (factor, config) in sizes(config, max_pixels) {
        let FitObjects { objects, too_small, pixels } = FitObjects::of(records(), &config);
        if pixels as f64 <= max_pixels.max(1.0) * present as f64 {
            let score = fit(&objects, &objects, anchors, options).after.with_missing(too_small);
            candidates.push(Candidate { config, factor, score });
        }
    }
    let best = candidates.iter().max_by(|a, b| {
        a.score.share().total_cmp(&b.score.share()).then(a.score.mean_best_iou.total_cmp(&b.score.mean_best_iou))
    });
    let Some(best) = best else { return vec![config.clone()] };
    let good = candidates.iter().filter(|c| c.score.share() >= best.score.share() - TOLERANCE);
    let nearest = good.min_by(|a, b| a.factor.ln().abs().total_cmp(&b.factor.ln().abs())).unwrap_or(best);
    let mut choices = vec![nearest.config.clone(), best.config.clone(), config.clone()];
    choices.dedup();
    choices
}

/// The present size and others, with the factors of their sides: multiples of 32 pixels from half the present size up
/// to that with `max_pixels` times as many pixels.
fn sizes(config: &DataConfig, max_pixels: f64) -> Vec<(f64, DataConfig)> {
    let short = config.fixed_size.map_or(config.min_size, |[height, width]| height.min(width));
    let most = max_pixels.max(1.0).sqrt();
    let low = (f64::from(short) * MIN_FACTOR / f64::from(MULTIPLE)).ceil().max(1.0);
    let high = (f64::from(short) * most / f64::from(MULTIPLE)).floor();
    let mut sizes = vec![(1.0, config.clone())];
    let between = |i: usize| (low * (high / low).powf(i as f64 / (MOST_SIZES - 1) as f64)).round() as u32 * MULTIPLE;
    let mut sides: Vec<u32> = if high < low { Vec::new() } else { (0..MOST_SIZES).map(between).collect() };
    sides.dedup();
    for side in sides.into_iter().filter(|side| *side != short) {
        let factor = f64::from(side) / f64::from(short);
        let scaled = scaled(config, factor);
        if scaled.validate().is_ok() {
            sizes.push((factor, scaled));
        }
    }
    sizes
}

/// The configuration with all sides of the input multiplied by a factor, the sides of a fixed size as multiples of 32.
fn scaled(config: &DataConfig, factor: f64) -> DataConfig {
    let times = |side: u32| (f64::from(side) * factor).round() as u32;
    let multiple = |side: u32| ((f64::from(side) * factor / f64::from(MULTIPLE)).round() as u32).max(1) * MULTIPLE;
    match config.fixed_size {
        Some(size) => DataConfig { fixed_size: Some(size.map(multiple)), ..config.clone() },
        None => {
            let min_size = multiple(config.min_size);
            // A limit that no image reaches stays none.
            let max_size = if config.max_size >= MAX_SIDE { config.max_size } else { times(config.max_size) };
            DataConfig { min_size, max_size: max_size.max(min_size), ..config.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(config: &DataConfig, max_pixels: f64) -> Vec<[u32; 2]> {
        sizes(config, max_pixels).iter().map(|(_, c)| c.fixed_size.unwrap_or([c.min_size, c.max_size])).collect()
    }

    #[test]
    fn sizes_are_multiples_within_the_limit() {
        let config = DataConfig { min_size: 320, max_size: 427, ..DataConfig::default() };
        let found = sides(&config, 2.0);
        assert_eq!(found[0], [320, 427]);
        let mut others: Vec<u32> = found[1..].iter().map(|[min, _]| *min).collect();
        others.sort_unstable();
        assert_eq!(others, [160, 192, 224, 256, 288, 352, 384, 416, 448]);
        // 352 / 320 * 427 = 469.7.
        assert!(found.contains(&[352, 470]), "{found:?}");
        assert!(sides(&config, 1.0).iter().all(|[min, _]| *min <= 320));
        assert_eq!(sides(&config, 0.0), sides(&config, 1.0));
    }

    #[test]
    fn fixed_sizes_and_limits_are_kept_in_their_form() {
        let fixed = DataConfig { fixed_size: Some([300, 600]), ..DataConfig::default() };
        for [height, width] in &sides(&fixed, 1.5)[1..] {
            assert!(
                height.is_multiple_of(32) && width.is_multiple_of(32) && width.abs_diff(2 * height) <= 32,
                "{height} {width}"
            );
        }
        let open = DataConfig { min_size: 320, max_size: 100_000, ..DataConfig::default() };
        assert!(sides(&open, 1.5).iter().all(|[_, max]| *max == 100_000));
        let tiny = DataConfig { min_size: 8, max_size: 9, ..DataConfig::default() };
        assert_eq!(sides(&tiny, 1.0), [[8, 9]]);
    }
}
