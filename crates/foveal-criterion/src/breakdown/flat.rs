//! The form in which a training state stores a breakdown of the class loss: flat lists of numbers.

use foveal_kernels::{BREAKDOWN_BINS, BREAKDOWN_LEVELS, BreakdownSums, LossBin, PairSums};
use serde::{Deserialize, Serialize};

use super::{AnchorCounts, LevelCounts, LossBreakdown};

/// The numbers of a [`LossBreakdown`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlatBreakdown {
    steps: usize,
    /// Positive, background and ignored anchors of each level, `[levels * 3]`.
    levels: Vec<u64>,
    /// Positive anchors of each class, `[classes]`.
    by_class: Vec<u64>,
    /// Loss, gradient and score of the positives and then of the negatives of each level, `[2 * levels * 3]`.
    pairs: Vec<f64>,
    /// Losses of the positives and then of the negatives of each class, `[2 * classes]`.
    class_losses: Vec<f64>,
    /// Count and loss of each bin of the histogram of the negatives' losses, `[bins * 2]`.
    bins: Vec<f64>,
}

impl From<LossBreakdown> for FlatBreakdown {
    fn from(breakdown: LossBreakdown) -> Self {
        let LossBreakdown { counts, sums, steps } = breakdown;
        let pairs = sums.positive.iter().chain(&sums.negative).flat_map(|p| [p.loss, p.gradient, p.score]).collect();
        Self {
            steps,
            levels: counts.levels.iter().flat_map(|l| [l.positive, l.background, l.ignored]).collect(),
            by_class: counts.by_class,
            pairs,
            class_losses: [sums.positive_by_class, sums.negative_by_class].concat(),
            bins: sums.bins.iter().flat_map(|bin| [bin.count, bin.loss]).collect(),
        }
    }
}

impl TryFrom<FlatBreakdown> for LossBreakdown {
    type Error = String;

    fn try_from(flat: FlatBreakdown) -> Result<Self, String> {
        let classes = flat.by_class.len();
        let expected = [3 * BREAKDOWN_LEVELS, 6 * BREAKDOWN_LEVELS, 2 * classes, 2 * BREAKDOWN_BINS];
        let found = [flat.levels.len(), flat.pairs.len(), flat.class_losses.len(), flat.bins.len()];
        if found != expected {
            return Err(format!("expected lists of {expected:?} numbers in a breakdown of the loss, found {found:?}"));
        }
        let levels = flat.levels.as_chunks::<3>().0;
        let pairs = flat.pairs.as_chunks::<3>().0;
        let sums = |at: usize| {
            std::array::from_fn(|level| {
                let [loss, gradient, score] = pairs[at + level];
                PairSums { loss, gradient, score }
            })
        };
        let (positive_by_class, negative_by_class) = flat.class_losses.split_at(classes);
        Ok(Self {
            counts: AnchorCounts {
                levels: std::array::from_fn(|level| {
                    let [positive, background, ignored] = levels[level];
                    LevelCounts { positive, background, ignored }
                }),
                by_class: flat.by_class,
            },
            sums: BreakdownSums {
                positive: sums(0),
                negative: sums(BREAKDOWN_LEVELS),
                positive_by_class: positive_by_class.to_vec(),
                negative_by_class: negative_by_class.to_vec(),
                bins: flat.bins.as_chunks::<2>().0.iter().map(|&[count, loss]| LossBin { count, loss }).collect(),
            },
            steps: flat.steps,
        })
    }
}
