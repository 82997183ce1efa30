//! The mean logits of background and positives before the first update, and how far the random weights of a new class
//! layer can move them from the bias of the prior.
//!
//! The logit of an output channel `o` at a location with the features `x` is `b + w_o * x`, where `b` is the bias of
//! the prior and the weights `w_o` of different outputs are independent with mean 0.
//!
//! - *Background.* The mean logits of the outputs are `b` plus independent values, so their mean over `k` outputs has
//!   the standard deviation of these values over `sqrt(k)`. It is measured.
//! - *Positives.* The logits of positives that share an output can be equal, those of different outputs are
//!   independent. With `n_o` of `n` positives at output `o`, the standard deviation of their mean is at most
//!   `s * sqrt(sum of n_o^2) / n`, where `s` is that of the logits at the positive anchors. It is measured too.
//!
//! Normalised features give the standard deviation [`FirstLossCheck::spread`]. The measured values are taken between
//! that and [`LARGEST`] times that, because a trained layer, whose logits differ between places and classes, would
//! otherwise excuse itself.

use super::FirstLossCheck;
use crate::analysis::prior_bias;

/// Limit of measured standard deviations, as a multiple of those that normalised features give. Features that are not
/// normalised, or concentrated at the objects, are larger.
const LARGEST: f64 = 4.0;
/// Number of standard deviations that are allowed.
const DEVIATIONS: f64 = 5.0;
/// Distance from the bias that is always allowed. It changes a focal loss with `gamma = 2` by the factor 1.35.
const SLACK: f64 = 0.1;

/// Sums of the logits of the first update.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Logits {
    /// Sum and number of the sampled logits of background anchors by output channel: `[outputs]`.
    background: Vec<(f64, usize)>,
    /// Sum of the logits of positive anchors for the class of their object.
    own: f64,
    /// Number of positive anchors by output channel: `[outputs]`.
    own_outputs: Vec<usize>,
    /// Sum of the squared distances from the bias of the prior, and number, of all logits of positive anchors.
    squares: (f64, usize),
}

/// A mean logit, and how far the noise of random weights may move it from the bias of the prior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mean {
    pub mean: f64,
    pub allowed: f64,
}

impl Logits {
    pub(super) fn new(outputs: usize) -> Self {
        Self { background: vec![(0.0, 0); outputs], own_outputs: vec![0; outputs], ..Self::default() }
    }

    /// Adds the logits of a background anchor; `output` is the output channel of its first class.
    pub(super) fn add_background(&mut self, output: usize, logits: &[f32]) {
        for ((sum, count), logit) in self.background[output..].iter_mut().zip(logits) {
            *sum += f64::from(*logit);
            *count += 1;
        }
    }

    /// Adds the logits of a positive anchor of the class `class`; `output` is the output channel of its first class.
    pub(super) fn add_positive(&mut self, output: usize, logits: &[f32], class: usize, prior: f64) {
        let bias = prior_bias(prior);
        self.own += f64::from(logits[class]);
        self.own_outputs[output + class] += 1;
        self.squares.0 += logits.iter().map(|x| (f64::from(*x) - bias).powi(2)).sum::<f64>();
        self.squares.1 += logits.len();
    }

    /// Adds the logits of another batch.
    pub(super) fn add(&mut self, other: &Self) {
        for ((sum, count), (more, n)) in self.background.iter_mut().zip(&other.background) {
            (*sum, *count) = (*sum + more, *count + n);
        }
        self.own += other.own;
        self.own_outputs.iter_mut().zip(&other.own_outputs).for_each(|(own, other)| *own += other);
        self.squares = (self.squares.0 + other.squares.0, self.squares.1 + other.squares.1);
    }

    /// The mean over the output channels of their mean logits of the background; `None` without background.
    pub(super) fn background(&self, check: &FirstLossCheck<'_>) -> Option<Mean> {
        let means: Vec<f64> =
            self.background.iter().filter(|(_, count)| *count > 0).map(|(sum, count)| sum / *count as f64).collect();
        let outputs = means.len() as f64;
        let mean = (!means.is_empty()).then(|| means.iter().sum::<f64>() / outputs)?;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (outputs - 1.0).max(1.0);
        let deviation = measured(variance.sqrt(), check.spread());
        Some(Mean { mean, allowed: SLACK + DEVIATIONS * deviation / outputs.sqrt() })
    }

    /// The mean logit of the positive anchors for the class of their object; `None` without positives.
    pub(super) fn positives(&self, check: &FirstLossCheck<'_>) -> Option<Mean> {
        let count = self.own_outputs.iter().sum::<usize>() as f64;
        let mean = (count > 0.0).then(|| self.own / count)?;
        let deviation = measured((self.squares.0 / self.squares.1 as f64).sqrt(), check.spread());
        let by_output = self.own_outputs.iter().map(|n| (*n as f64).powi(2)).sum::<f64>().sqrt();
        Some(Mean { mean, allowed: SLACK + DEVIATIONS * deviation * by_output / count })
    }
}

/// A measured standard deviation, within the range that a new layer explains.
fn measured(deviation: f64, normalised: f64) -> f64 {
    deviation.clamp(normalised, LARGEST * normalised)
}
