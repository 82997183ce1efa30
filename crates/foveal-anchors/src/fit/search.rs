//! The search for the anchors with the highest score: a coordinate search in the logarithms of sizes and ratios.

use super::kmeans::{Shape, k_means};
use super::objective::{Objective, Scored};
use super::{AnchorCounts, FitOptions, FitScore};
use crate::{AnchorConfig, LEVELS, STRIDES};

/// Steps of the search in octaves, which are done one after the other: a factor of 1.41 first, and of 1.02 last.
const STEPS: [f64; 5] = [0.5, 0.25, 0.125, 0.0625, 0.03125];

/// Most rounds over all values with one step.
const MAX_ROUNDS: usize = 20;

/// Largest base size of a level in strides of the level, twice that of Lin et al. (arXiv 1708.02002). Larger objects
/// belong to the next level, where they need fewer anchors.
const MAX_STRIDES: f32 = 8.0;

/// A change of a configuration by a step in octaves.
#[derive(Clone, Copy)]
enum Change {
    /// The base size of one level.
    Size(usize),
    /// The base sizes of all levels.
    AllSizes,
    /// One ratio.
    Ratio(usize),
    /// All ratios.
    AllRatios,
    /// The distances of all ratios from 1.
    Spread,
}

/// A search for anchors.
pub(super) struct Search<'a> {
    objective: &'a Objective,
    present: &'a AnchorConfig,
    options: &'a FitOptions,
    /// Smallest and largest base size of each level.
    bounds: [[f32; 2]; LEVELS],
    /// Number of configurations that were scored.
    pub(super) tried: usize,
}

impl<'a> Search<'a> {
    /// A search that starts from the anchors `present` and from k-means.
    pub(super) fn new(objective: &'a Objective, present: &'a AnchorConfig, options: &'a FitOptions) -> Self {
        let bounds = std::array::from_fn(|level| {
            let (stride, size) = (STRIDES[level] as f32, present.base_sizes[level]);
            let low = if level == 0 { 0.0 } else { stride.min(size) };
            let high = if level + 1 == LEVELS { f32::INFINITY } else { (MAX_STRIDES * stride).max(size) };
            [low, high]
        });
        Self { objective, present, options, bounds, tried: 0 }
    }

    /// The best anchors that were found with these numbers of scales and ratios; `None` if there is nothing to start
    /// from.
    pub(super) fn run(&mut self, counts: AnchorCounts) -> Option<Scored> {
        let changes = self.changes(counts);
        let mut best: Option<Scored> = None;
        for start in self.starts(counts) {
            let start = self.scored(start, None);
            let found = self.refined(start, &changes);
            if best.as_ref().is_none_or(|best| found.score.is_better_than(&best.score)) {
                best = Some(found);
            }
        }
        best
    }

    /// The configurations that the search starts from: the present one first, if it has these numbers.
    fn starts(&self, counts: AnchorCounts) -> Vec<AnchorConfig> {
        let same = AnchorCounts::of(self.present) == counts;
        let shapes: Vec<Shape> = self.objective.shapes().collect();
        let ratios = if same { vec![self.present.ratios.clone()] } else { Vec::new() };
        let fitted = self.options.ratios.then(|| ratios_of(&shapes, counts.ratios)).flatten();
        let mut starts = Vec::new();
        for ratios in ratios.into_iter().chain(fitted) {
            let sizes = self.options.sizes.then(|| self.sizes_of(&shapes, counts.scales)).flatten();
            for base_sizes in std::iter::once(self.present.base_sizes.clone()).chain(sizes) {
                let config =
                    AnchorConfig { base_sizes, scales: counts.scales, ratios: ratios.clone(), ..self.present.clone() };
                if self.is_allowed(&config) {
                    starts.push(config);
                }
            }
        }
        starts
    }

    /// The base sizes of the levels by k-means, within their bounds: the middle size of a level is that of its cluster.
    fn sizes_of(&self, shapes: &[Shape], scales: usize) -> Option<Vec<f32>> {
        let clusters = k_means(shapes, LEVELS, |[width, height]| width * height);
        let middle = 2f64.powf((scales as f64 - 1.0) / (2.0 * scales as f64));
        let mut least = 0.0f32;
        let mut size = |([width, height], [low, high]): (&Shape, [f32; 2])| {
            least = least.max(rounded((width * height).sqrt() / middle).max(low).min(high));
            least
        };
        (!clusters.is_empty()).then(|| clusters.iter().zip(self.bounds).map(&mut size).collect())
    }

    /// The changes that the search tries.
    fn changes(&self, counts: AnchorCounts) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.options.sizes {
            changes.push(Change::AllSizes);
            changes.extend((0..LEVELS).map(Change::Size));
        }
        if self.options.ratios {
            changes.extend([Change::AllRatios, Change::Spread]);
            changes.extend((0..counts.ratios).map(Change::Ratio));
        }
        changes
    }

    /// Improves a configuration by steps that become smaller, until no step improves it.
    fn refined(&mut self, start: Scored, changes: &[Change]) -> Scored {
        let mut best = start;
        for step in STEPS {
            for _ in 0..MAX_ROUNDS {
                let before = best.score;
                for change in changes {
                    for octaves in [step, -step] {
                        let config = changed(&best.config, *change, octaves);
                        self.try_config(&mut best, config, Scored::is_improved_by);
                    }
                }
                if best.score == before {
                    break;
                }
            }
        }
        self.restored(best)
    }

    /// Gives back their present values to sizes and ratios for which this makes no difference, such as the sizes of
    /// levels that no object needs.
    fn restored(&mut self, mut best: Scored) -> Scored {
        for level in (0..LEVELS).rev() {
            let mut config = best.config.clone();
            config.base_sizes[level] = self.present.base_sizes[level];
            self.try_config(&mut best, config, Scored::is_not_worsened_by);
        }
        if AnchorCounts::of(&best.config) == AnchorCounts::of(self.present) {
            for ratio in 0..self.present.ratios.len() {
                let mut config = best.config.clone();
                config.ratios[ratio] = self.present.ratios[ratio];
                self.try_config(&mut best, config, Scored::is_not_worsened_by);
            }
        }
        best
    }

    /// Replaces `best` by a configuration if that is allowed, differs, and is accepted by its score.
    fn try_config(&mut self, best: &mut Scored, config: AnchorConfig, accept: fn(&Scored, &FitScore) -> bool) {
        if config != best.config && self.is_allowed(&config) {
            let scored = self.scored(config, Some(best));
            if accept(best, &scored.score) {
                *best = scored;
            }
        }
    }

    fn scored(&mut self, config: AnchorConfig, other: Option<&Scored>) -> Scored {
        self.tried += 1;
        self.objective.scored(config, other)
    }

    /// Whether a configuration is valid and its sizes are within their bounds and ascend with the levels. Present sizes
    /// that do not ascend need not ascend.
    fn is_allowed(&self, config: &AnchorConfig) -> bool {
        let sizes = &config.base_sizes;
        let within = sizes.iter().zip(self.bounds).all(|(size, [low, high])| (low..=high).contains(size));
        let ascends = |sizes: &[f32]| sizes.is_sorted();
        within && (ascends(sizes) || !ascends(&self.present.base_sizes)) && config.validate().is_ok()
    }
}

impl Scored {
    fn is_improved_by(&self, score: &FitScore) -> bool {
        score.is_better_than(&self.score)
    }

    fn is_not_worsened_by(&self, score: &FitScore) -> bool {
        !self.score.is_better_than(score)
    }
}

/// The ratios of height to width of clusters of shapes with the same area; `None` without shapes.
fn ratios_of(shapes: &[Shape], count: usize) -> Option<Vec<f32>> {
    let unit = |[width, height]: &Shape| [(width / height).sqrt(), (height / width).sqrt()];
    let ratio = |[width, height]: &Shape| height / width;
    let shapes: Vec<Shape> = shapes.iter().map(unit).collect();
    let clusters = k_means(&shapes, count, ratio);
    (!clusters.is_empty()).then(|| clusters.iter().map(|cluster| rounded(ratio(cluster))).collect())
}

/// The configuration after a change by some octaves.
fn changed(config: &AnchorConfig, change: Change, octaves: f64) -> AnchorConfig {
    let mut config = config.clone();
    let scale = |value: &mut f32| *value = rounded(f64::from(*value) * 2f64.powf(octaves));
    match change {
        Change::Size(level) => scale(&mut config.base_sizes[level]),
        Change::AllSizes => config.base_sizes.iter_mut().for_each(scale),
        Change::Ratio(ratio) => scale(&mut config.ratios[ratio]),
        Change::AllRatios => config.ratios.iter_mut().for_each(scale),
        Change::Spread => {
            config.ratios.iter_mut().for_each(|ratio| *ratio = rounded(f64::from(*ratio).powf(2f64.powf(octaves))));
        }
    }
    config
}

/// The value with three significant digits, so that a configuration file contains what was scored.
fn rounded(value: f64) -> f32 {
    format!("{value:.2e}").parse().unwrap_or(value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits() {
        assert_eq!([0.123456, 1.0, 31.749, 1234.5].map(rounded), [0.123, 1.0, 31.7, 1230.0]);
    }

    #[test]
    fn steps_are_factors() {
        let config = AnchorConfig::default();
        let wide = changed(&config, Change::AllSizes, 0.5);
        assert_eq!(wide.base_sizes, [45.3, 90.5, 181.0, 362.0, 724.0]);
        assert_eq!(changed(&config, Change::Size(1), -1.0).base_sizes, [32.0, 32.0, 128.0, 256.0, 512.0]);
        assert_eq!(changed(&config, Change::Spread, 1.0).ratios, [0.25, 1.0, 4.0]);
        assert_eq!(changed(&config, Change::AllRatios, 1.0).ratios, [1.0, 2.0, 4.0]);
        assert_eq!(changed(&config, Change::Ratio(2), -1.0).ratios, [0.5, 1.0, 1.0]);
    }

    #[test]
    fn ratios_are_those_of_the_clusters() {
        // Widths and heights with the ratios 0.5 and 3, of very different sizes.
        let shapes = [[20.0, 10.0], [200.0, 100.0], [10.0, 30.0], [100.0, 300.0]];
        assert_eq!(ratios_of(&shapes, 2), Some(vec![0.5, 3.0]));
        assert_eq!(ratios_of(&[], 2), None);
    }
}
