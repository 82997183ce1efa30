//! The breakdown of the class loss on the host: which pairs of anchor and class it came from.
//!
//! A *pair* is an anchor and a class. Positives are the pairs of an anchor and the class of its object; negatives are
//! all other pairs of anchors that are not ignored. Anchors are counted on the host from the targets; the sums of
//! losses, gradients and scores are computed on the device. If the device selects the background anchors that take part
//! (OHEM), it also counts them.

use burn::tensor::Tensor;
use foveal_kernels::{BREAKDOWN_LEVELS, BreakdownLayout, BreakdownSums, IGNORE, PairSums, breakdown_bin_start};
use serde::{Deserialize, Serialize};

mod flat;
mod record;

use flat::FlatBreakdown;
pub use record::{BinRecord, BreakdownRecord, ClassRecord, LevelRecord, SideRecord};

/// The number in the name of the first pyramid level, P3.
const FIRST_LEVEL: usize = 3;
/// Significant digits of the numbers by class in a log. A line can have hundreds of them.
const CLASS_DIGITS: usize = 5;

/// The breakdown of the class loss of one batch. Its sums are still on the device.
#[derive(Clone, Debug)]
pub struct BatchBreakdown {
    /// Numbers of positive, background and ignored anchors, counted on the host. If the device selects the background
    /// anchors that take part, all background anchors are counted here, and `values` contains their number.
    pub counts: AnchorCounts,
    /// The sums in the flat form that [`LossBreakdown::read`] takes, `[values]`. Losses and gradients are already
    /// divided by the normalizer. The tensor is not part of the autodiff graph.
    ///
    /// If the device selects the background anchors that take part, their numbers on each pyramid level follow the
    /// sums.
    pub values: Tensor<1>,
}

impl BatchBreakdown {
    /// Returns this breakdown with its tensor detached from the autodiff graph.
    pub fn without_autodiff(self) -> Self {
        Self { counts: self.counts, values: self.values.without_autodiff() }
    }

    /// Returns the sum of this breakdown and that of an earlier batch of the same update, or this breakdown unchanged
    /// if there is no earlier batch.
    pub fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(earlier) = earlier {
            self.counts.add(&earlier.counts);
            self.values = earlier.values + self.values;
        }
        self
    }
}

/// Numbers of anchors of one pyramid level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCounts {
    /// Number of positive anchors, which were matched with an object.
    pub positive: u64,
    /// Number of background anchors, which were matched with no object and take part in the loss.
    pub background: u64,
    /// Number of ignored anchors, which take no part in the loss.
    pub ignored: u64,
}

/// Numbers of anchors by pyramid level and by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorCounts {
    /// The pyramid levels P3 to P7, in this order.
    pub levels: [LevelCounts; BREAKDOWN_LEVELS],
    /// Number of positive anchors of each class, in class order.
    pub by_class: Vec<u64>,
}

impl AnchorCounts {
    /// Counts the anchors of one or more images.
    ///
    /// # Shapes
    /// `ids` is `[images * anchors]`: the class of each anchor, `BACKGROUND` or `IGNORE`, with the anchors of each
    /// image in the order of `layout`.
    ///
    /// # Panics
    /// If a class is not below `classes`, or if the length of `ids` is not a multiple of the anchors of `layout`.
    pub fn of(ids: &[i32], layout: BreakdownLayout, classes: usize) -> Self {
        let mut counts = Self { levels: Default::default(), by_class: vec![0; classes] };
        let mut rest = ids;
        while !rest.is_empty() {
            for (level, anchors) in counts.levels.iter_mut().zip(layout.level_anchors) {
                let (of_level, after) = rest.split_at(anchors);
                rest = after;
                for id in of_level {
                    match usize::try_from(*id) {
                        Ok(class) => {
                            level.positive += 1;
                            counts.by_class[class] += 1;
                        }
                        Err(_) if *id <= IGNORE => level.ignored += 1,
                        Err(_) => level.background += 1,
                    }
                }
            }
        }
        counts
    }

    /// Adds the numbers of anchors of other images.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.levels.iter_mut().zip(&other.levels) {
            own.positive += other.positive;
            own.background += other.background;
            own.ignored += other.ignored;
        }
        self.by_class.iter_mut().zip(&other.by_class).for_each(|(a, b)| *a += b);
    }

    /// Counts as ignored all background anchors of each level except `kept`, `[levels]`.
    fn select_background(&mut self, kept: &[f32]) {
        assert_eq!(kept.len(), BREAKDOWN_LEVELS, "a breakdown has one number of background anchors per level");
        for (level, kept) in self.levels.iter_mut().zip(kept) {
            let kept = (*kept as u64).min(level.background);
            level.ignored += level.background - kept;
            level.background = kept;
        }
    }

    /// The numbers of positive and negative pairs of a level.
    fn pairs(&self, level: &LevelCounts) -> [f64; 2] {
        let classes = self.by_class.len() as u64;
        [level.positive as f64, (level.background * classes + level.positive * classes.saturating_sub(1)) as f64]
    }
}

/// The breakdown of the class loss of one or more steps, on the host: numbers of anchors, and sums of losses, gradients
/// and scores by pyramid level, by class and by the size of the loss. It is serialised as flat lists of its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "FlatBreakdown", try_from = "FlatBreakdown")]
pub struct LossBreakdown {
    /// Numbers of positive, background and ignored anchors, summed over the steps.
    pub counts: AnchorCounts,
    /// Sums of losses, gradients and scores over the steps. Losses and gradients are divided by the normalizer.
    pub sums: BreakdownSums,
    /// Number of training steps that the counts and sums cover.
    pub steps: usize,
}

impl LossBreakdown {
    /// Reads the breakdown of one step from the values of [`BatchBreakdown::values`].
    ///
    /// # Panics
    /// If the number of values does not fit the number of classes in `counts`.
    pub fn read(mut counts: AnchorCounts, values: &[f32]) -> Self {
        let classes = counts.by_class.len();
        let (sums, background) = values.split_at(BreakdownLayout::values(classes).min(values.len()));
        if !background.is_empty() {
            counts.select_background(background);
        }
        Self { counts, sums: BreakdownSums::read(sums, classes), steps: 1 }
    }

    /// Adds the counts and sums of other steps.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        let pairs = |own: &mut [PairSums], other: &[PairSums]| {
            for (own, other) in own.iter_mut().zip(other) {
                own.loss += other.loss;
                own.gradient += other.gradient;
                own.score += other.score;
            }
        };
        let numbers = |own: &mut [f64], other: &[f64]| own.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        pairs(&mut self.sums.positive, &other.sums.positive);
        pairs(&mut self.sums.negative, &other.sums.negative);
        numbers(&mut self.sums.positive_by_class, &other.sums.positive_by_class);
        numbers(&mut self.sums.negative_by_class, &other.sums.negative_by_class);
        for (own, other) in self.sums.bins.iter_mut().zip(&other.sums.bins) {
            own.count += other.count;
            own.loss += other.loss;
        }
        self.steps += other.steps;
    }

    /// Returns the smallest fraction of the negative pairs, from 0 to 1, that contributes half of the negatives' loss,
    /// when pairs are counted from the highest loss (arXiv 1708.02002, figure 4). It is 0 if there are no negatives or
    /// their loss is 0.
    ///
    /// The result comes from a histogram. In the bin where half of the loss is reached, all losses are taken as equal.
    /// They differ by a factor of at most 1.5, so at least two thirds of the pairs counted from that bin are needed.
    pub fn half_loss_fraction(&self) -> f64 {
        let bins = &self.sums.bins;
        let (count, loss) = bins.iter().fold((0.0, 0.0), |(c, l), bin| (c + bin.count, l + bin.loss));
        if count == 0.0 || loss == 0.0 {
            return 0.0;
        }
        let (mut above, mut missing) = (0.0, 0.5 * loss);
        for bin in bins.iter().rev() {
            if bin.loss >= missing && bin.loss > 0.0 {
                return (above + bin.count * missing / bin.loss) / count;
            }
            above += bin.count;
            missing -= bin.loss;
        }
        1.0
    }

    /// Returns the record for a log, with means over the steps and without the histogram of the negatives' losses.
    pub fn record(&self) -> BreakdownRecord {
        let steps = self.steps.max(1) as f64;
        let (mut pairs, mut ignored) = ([0.0; 2], 0.0);
        let mut levels = Vec::with_capacity(BREAKDOWN_LEVELS);
        for (i, level) in self.counts.levels.iter().enumerate() {
            let [positives, negatives] = self.counts.pairs(level);
            (pairs[0], pairs[1]) = (pairs[0] + positives, pairs[1] + negatives);
            ignored += level.ignored as f64;
            levels.push(LevelRecord {
                level: FIRST_LEVEL + i,
                positives: positives / steps,
                negatives: negatives / steps,
                ignored: level.ignored as f64 / steps,
                positive_loss: self.sums.positive[i].loss / steps,
                negative_loss: self.sums.negative[i].loss / steps,
            });
        }
        let total = |of: &[PairSums], value: fn(&PairSums) -> f64| of.iter().map(value).sum::<f64>();
        let side = |of: &[PairSums], pairs: f64, mean: fn(f64) -> f64| {
            let score = total(of, |s| s.score) / pairs.max(1.0);
            SideRecord {
                pairs: pairs / steps,
                loss: total(of, |s| s.loss) / steps,
                gradient: total(of, |s| s.gradient) / steps,
                mean_p_t: if pairs > 0.0 { mean(score) } else { 0.0 },
            }
        };
        let positive = side(&self.sums.positive, pairs[0], |score| score);
        let negative = side(&self.sums.negative, pairs[1], |score| 1.0 - score);
        let share = |a: f64, b: f64| if a + b > 0.0 { a / (a + b) } else { 0.0 };
        let short = |values: &[f64]| values.iter().map(|v| rounded(v / steps)).collect::<Vec<f64>>();
        BreakdownRecord {
            positive_share: share(positive.loss, negative.loss),
            positive_gradient_share: share(positive.gradient, negative.gradient),
            half_of_negative_loss: self.half_loss_fraction(),
            ignored: ignored / steps,
            positive,
            negative,
            levels,
            classes: ClassRecord {
                positives: self.counts.by_class.iter().map(|n| rounded(*n as f64 / steps)).collect(),
                positive_loss: short(&self.sums.positive_by_class),
                negative_loss: short(&self.sums.negative_by_class),
            },
            negative_bins: Vec::new(),
        }
    }

    /// Returns the record for a log, with means over the steps and with the histogram of the negatives' losses.
    pub fn record_with_bins(&self) -> BreakdownRecord {
        let filled = self.sums.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0.0);
        let bins = filled.map(|(i, bin)| BinRecord {
            from: f64::from(breakdown_bin_start(i)),
            count: bin.count / self.steps.max(1) as f64,
            loss: bin.loss / self.steps.max(1) as f64,
        });
        BreakdownRecord { negative_bins: bins.collect(), ..self.record() }
    }
}

/// Rounds to [`CLASS_DIGITS`] significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.*e}", CLASS_DIGITS - 1).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_kernels::LossBin;

    fn breakdown(bins: &[(usize, f64, f64)]) -> LossBreakdown {
        let layout = BreakdownLayout { level_anchors: [2, 1, 0, 0, 0] };
        let counts = AnchorCounts::of(&[1, -1, -2, -1, 0, -1], layout, 2);
        let mut sums = BreakdownSums::zero(2);
        for (bin, count, loss) in bins {
            sums.bins[*bin] = LossBin { count: *count, loss: *loss };
        }
        LossBreakdown { counts, sums, steps: 1 }
    }

    #[test]
    fn anchors_are_counted_by_level_and_class() {
        let counts = breakdown(&[]).counts;
        let level = |positive, background, ignored| LevelCounts { positive, background, ignored };
        assert_eq!(counts.levels[..2], [level(2, 2, 0), level(0, 1, 1)]);
        assert_eq!(counts.by_class, [1, 1]);
        assert_eq!(counts.pairs(&counts.levels[0]), [2.0, 6.0]);
    }

    #[test]
    fn half_of_the_loss_is_counted_from_the_costliest() {
        // One negative has a loss of 6 of 10, ninety-nine share the rest. Half of the loss is 5/6 of the first.
        assert!((breakdown(&[(70, 1.0, 6.0), (30, 99.0, 4.0)]).half_loss_fraction() - 0.01 * 5.0 / 6.0).abs() < 1e-12);
        // All losses are equal, so half of the negatives are needed.
        assert_eq!(breakdown(&[(40, 10.0, 3.0)]).half_loss_fraction(), 0.5);
        assert_eq!(breakdown(&[]).half_loss_fraction(), 0.0);
        assert_eq!(breakdown(&[(0, 10.0, 0.0)]).half_loss_fraction(), 0.0);
    }

    #[test]
    fn a_record_has_means_and_survives_json() {
        let mut two = breakdown(&[(40, 10.0, 3.0)]);
        two.sums.positive[0] = PairSums { loss: 3.0, gradient: 1.0, score: 0.5 };
        two.sums.negative[0] = PairSums { loss: 1.0, gradient: 3.0, score: 0.8 };
        two.sums.positive_by_class = vec![0.123456789, 0.0];
        let one = two.record();
        two.add(&two.clone());
        let record = two.record_with_bins();
        assert_eq!((record.positive_share, record.positive_gradient_share), (0.75, 0.25));
        assert_eq!(record.positive.mean_p_t, 0.25);
        assert!((record.negative.mean_p_t - 0.9).abs() < 1e-12);
        assert_eq!((record.ignored, record.classes.positive_loss[0]), (1.0, 0.12346));
        assert_eq!(BreakdownRecord { negative_bins: Vec::new(), ..record.clone() }, one);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<BreakdownRecord>(&text).unwrap(), record);
        let text = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<LossBreakdown>(&text).unwrap(), two);
        let longer = text.replacen("\"bins\":[", "\"bins\":[0.0,", 1);
        assert!(serde_json::from_str::<LossBreakdown>(&longer).is_err(), "{longer}");
    }
}
