//! The class loss of a batch in closed form, in `f64`, from the logits and boxes that a network predicts.

use burn::tensor::Tensor;
use foveal_anchors::{BACKGROUND, ImageTargets};
use foveal_boxes::{Delta, decode};

use super::FirstLossCheck;
use super::scores::Logits;
use crate::analysis::{PairLoss, Sums};
use crate::kind::Participants;
use crate::losses::Normalizer;
use crate::mining;
use crate::predicted::int_tensor;

/// Number of logits of background anchors of a batch that are read from the device.
const SAMPLE: usize = 1 << 21;
/// Fractional part of the golden ratio. Its multiples, modulo 1, are spread evenly and have no period, so that a sample
/// at these places does not favour any of the anchors of a location.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Distance of scores from 0 and 1 that keeps their logarithms finite.
const LEAST: f64 = 1e-12;

/// The class loss of a batch, divided by the normalizer, and its logits.
pub(super) struct ClosedForm {
    /// The loss for the predicted logits and boxes.
    pub loss: Sums,
    /// The loss for the predicted boxes if every score equals the prior.
    pub at_prior: Sums,
    pub logits: Logits,
}

/// The class loss of a batch in closed form. The shapes are those of [`FirstLossCheck::expected`].
pub(super) fn of(
    check: &FirstLossCheck<'_>,
    logits: &Tensor<3>,
    deltas: &Tensor<3>,
    targets: &[ImageTargets],
    normalizer: Normalizer,
) -> ClosedForm {
    let [batch, anchors, classes] = logits.dims();
    assert_eq!(batch, targets.len(), "the targets must have one entry per image of the batch");
    let (logits, deltas) = (logits.clone().without_autodiff(), deltas.clone().without_autodiff());
    let hardest = check.config.kind.form().anchors == Participants::Hardest;
    let kept = hardest.then(|| {
        let mut ids: Vec<i32> = targets.iter().flat_map(|t| t.classes.iter().copied()).collect();
        mining::keep_on_host(&logits, &mut ids, check.config.ohem_ratio);
        ids
    });
    let pairs: Vec<PairLoss> = (0..classes).map(|class| check.config.pair_loss(class)).collect();
    let mut sums = Sum {
        check,
        at_prior_of_all: pairs.iter().map(|pair| pair.negative(check.prior)).sum(),
        pairs,
        anchors_per_location: (check.outputs / classes.max(1)).max(1),
        result: ClosedForm {
            loss: Sums::default(),
            at_prior: Sums::default(),
            logits: Logits::new(check.outputs.max(classes)),
        },
    };
    let limit = (SAMPLE / (classes.max(1) * batch.max(1))).max(1);
    for (image, targets) in targets.iter().enumerate() {
        let (first, weight) = (image * anchors, normalizer.weight(targets));
        let background = |ids: &[i32]| indices(ids, BACKGROUND);
        let (all, sample) = sampled(background(&targets.classes), limit);
        let rows = Rows::read(&logits, first, &sample);
        sample.iter().zip(rows.iter()).for_each(|(anchor, row)| sums.score_background(*anchor, row));
        match &kept {
            None => sums.background(rows.iter(), weight * all as f64 / sample.len().max(1) as f64, sample.len()),
            Some(ids) => {
                let (all, sample) = sampled(background(&ids[first..first + anchors]), limit);
                let rows = Rows::read(&logits, first, &sample);
                sums.background(rows.iter(), weight * all as f64 / sample.len().max(1) as f64, sample.len());
            }
        }
        let of_positives: Vec<usize> = targets.positives.iter().map(|p| p.anchor as usize).collect();
        let (rows, boxes) = (Rows::read(&logits, first, &of_positives), Rows::read(&deltas, first, &of_positives));
        for ((positive, row), delta) in targets.positives.iter().zip(rows.iter()).zip(boxes.iter()) {
            // The class channel. In a network with more channels than classes it differs from the object's class.
            let class = targets.classes[positive.anchor as usize] as usize;
            let delta = Delta::from_array(delta.try_into().expect("a delta has four values"));
            let loss =
                |score| check.config.positive_at(&decode(&positive.anchor_box, delta), &positive.object, class, score);
            sums.positive(positive.anchor as usize, row, class, weight, loss);
        }
    }
    sums.result
}

/// The losses summed so far.
struct Sum<'a> {
    check: &'a FirstLossCheck<'a>,
    /// The loss of a pair, by class.
    pairs: Vec<PairLoss>,
    /// The loss of the negative pairs of one anchor with all classes if every score equals the prior.
    at_prior_of_all: f64,
    anchors_per_location: usize,
    result: ClosedForm,
}

impl Sum<'_> {
    /// Index of the output channel of an anchor's first class.
    fn output(&self, anchor: usize) -> usize {
        anchor % self.anchors_per_location * self.pairs.len()
    }

    fn score_background(&mut self, anchor: usize, row: &[f32]) {
        let output = self.output(anchor);
        self.result.logits.add_background(output, row);
    }

    /// Adds background anchors, each with a weight.
    fn background<'r>(&mut self, rows: impl Iterator<Item = &'r [f32]>, weight: f64, count: usize) {
        let loss: f64 = rows.map(|row| self.negatives(row, None)).sum();
        self.result.loss.negative += weight * loss;
        self.result.at_prior.negative += weight * count as f64 * self.at_prior_of_all;
    }

    /// Adds a positive anchor. `loss` gives the loss of its pair with the class of its object for a score.
    fn positive(&mut self, anchor: usize, row: &[f32], class: usize, weight: f64, loss: impl Fn(f64) -> f64) {
        let (prior, output) = (self.check.prior, self.output(anchor));
        let weight = weight * self.check.config.class_weight(class);
        self.result.logits.add_positive(output, row, class, prior);
        self.result.loss.negative += weight * self.negatives(row, Some(class));
        self.result.loss.positive += weight * loss(score(row[class]));
        self.result.at_prior.negative += weight * (self.at_prior_of_all - self.pairs[class].negative(prior));
        self.result.at_prior.positive += weight * loss(prior);
    }

    /// The loss of the negative pairs of an anchor: those with all classes except that of its object.
    fn negatives(&self, row: &[f32], own: Option<usize>) -> f64 {
        let pairs = self.pairs.iter().zip(row).enumerate().filter(|(class, _)| Some(*class) != own);
        pairs.map(|(_, (pair, logit))| pair.negative(score(*logit))).sum()
    }
}

/// The score of a logit, a little above 0 and below 1.
fn score(logit: f32) -> f64 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())).clamp(LEAST, 1.0 - LEAST)
}

/// The places of a value among the classes of anchors.
fn indices(ids: &[i32], value: i32) -> Vec<usize> {
    ids.iter().enumerate().filter(|(_, id)| **id == value).map(|(anchor, _)| anchor).collect()
}

/// The number of the values, and at most `limit` of them, one from each of as many parts of equal length.
fn sampled(values: Vec<usize>, limit: usize) -> (usize, Vec<usize>) {
    let all = values.len();
    if all <= limit {
        return (all, values);
    }
    let part = all as f64 / limit as f64;
    let place = |i: usize| (((i as f64 + (i as f64 * GOLDEN).fract()) * part) as usize).min(all - 1);
    (all, (0..limit).map(|i| values[place(i)]).collect())
}

/// Rows of `[batch, anchors, columns]` on the host.
struct Rows {
    values: Vec<f32>,
    columns: usize,
}

impl Rows {
    /// Reads the rows of the given anchors; `first` is the row of the image's first anchor.
    fn read(from: &Tensor<3>, first: usize, anchors: &[usize]) -> Self {
        let [batch, all, columns] = from.dims();
        if anchors.is_empty() {
            return Self { values: Vec::new(), columns };
        }
        let rows: Vec<i32> =
            anchors.iter().map(|a| i32::try_from(first + a).expect("the number of anchors fits an i32")).collect();
        let rows = from.clone().reshape([batch * all, columns]).select(0, int_tensor(&rows, &from.device()));
        Self { values: rows.into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable"), columns }
    }

    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns.max(1))
    }
}
