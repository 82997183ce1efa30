//! What a class loss comes to where all scores are known: in closed form and `f64`.
//!
//! The formulas are those of the kernels ([`foveal_kernels::class_loss`]), which a test of this crate compares; natural
//! logarithms throughout. `foveal loss` prints these numbers, and the check of a run's first loss expects them.

/// The loss of one pair of anchor and class: `weight * (1 - p_t)^gamma * -ln(p_t)` with `p_t` the probability given to
/// the truth (Lin et al., arXiv 1708.02002, equations 1, 3 and 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// Weight of pairs whose object is there.
    pub positive_weight: f64,
    /// Weight of all other pairs.
    pub negative_weight: f64,
    /// Exponent of the focal factor; 0 leaves it out.
    pub gamma: f64,
}

/// How many pairs there are, and the score (sigmoid of the logit) that each gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Pairs whose object is there.
    pub positives: f64,
    /// All other pairs.
    pub negatives: f64,
    /// Score of each positive; its `p_t`.
    pub of_positives: f64,
    /// Score of each negative; `1 - p_t`.
    pub of_negatives: f64,
}

/// Sums over positives and negatives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the pairs whose object is there.
    pub positive: f64,
    /// Of all other pairs.
    pub negative: f64,
}

impl Sums {
    /// Both.
    pub fn total(&self) -> f64 {
        self.positive + self.negative
    }

    /// The positives' share of both, a fraction; 0 where there is nothing.
    pub fn positive_share(&self) -> f64 {
        if self.total() > 0.0 { self.positive / self.total() } else { 0.0 }
    }
}

impl PairLoss {
    /// Plain cross entropy (equation 1).
    pub const fn cross_entropy() -> Self {
        Self { positive_weight: 1.0, negative_weight: 1.0, gamma: 0.0 }
    }

    /// Alpha-balanced cross entropy (equation 3).
    pub const fn balanced(alpha: f64) -> Self {
        Self { positive_weight: alpha, negative_weight: 1.0 - alpha, gamma: 0.0 }
    }

    /// Focal loss (equation 5).
    pub const fn focal(alpha: f64, gamma: f64) -> Self {
        Self { positive_weight: alpha, negative_weight: 1.0 - alpha, gamma }
    }

    /// The loss of a pair whose object is there, by its score.
    pub fn positive(&self, score: f64) -> f64 {
        self.positive_weight * (1.0 - score).powf(self.gamma) * -score.ln()
    }

    /// The loss of any other pair, by its score.
    pub fn negative(&self, score: f64) -> f64 {
        self.negative_weight * score.powf(self.gamma) * -(-score).ln_1p()
    }

    /// How fast the unweighted loss falls with the logit of the truth, by `p_t`; the gradient's magnitude.
    pub fn slope(&self, truth: f64) -> f64 {
        let other = 1.0 - truth;
        other.powf(self.gamma) * (other - self.gamma * truth * truth.ln())
    }

    /// The sums over all pairs.
    pub fn sums(&self, scores: &Scores) -> Sums {
        Sums {
            positive: scores.positives * self.positive(scores.of_positives),
            negative: scores.negatives * self.negative(scores.of_negatives),
        }
    }

    /// The gradients' magnitudes by the logits, summed over all pairs.
    pub fn gradients(&self, scores: &Scores) -> Sums {
        Sums {
            positive: scores.positives * self.positive_weight * self.slope(scores.of_positives),
            negative: scores.negatives * self.negative_weight * self.slope(1.0 - scores.of_negatives),
        }
    }

    /// The sums where every score is `prior`, as before the first update: `anchors` are those that take part in the
    /// loss, `positives` of them hold an object, and each has as many pairs as there are `classes`.
    pub fn at_prior(&self, prior: f64, anchors: f64, classes: f64, positives: f64) -> Sums {
        let negatives = anchors * classes - positives;
        self.sums(&Scores { positives, negatives, of_positives: prior, of_negatives: prior })
    }
}

/// The bias that gives every pair the score `prior` (section 4.1): `-ln((1 - prior) / prior)`.
pub fn prior_bias(prior: f64) -> f64 {
    prior.ln() - (-prior).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found}, not {expected}");
    }

    #[test]
    fn hand_computed_pairs() {
        let ln2 = std::f64::consts::LN_2;
        close(PairLoss::cross_entropy().positive(0.5), ln2);
        close(PairLoss::balanced(0.25).positive(0.5), 0.25 * ln2);
        close(PairLoss::balanced(0.25).negative(0.5), 0.75 * ln2);
        close(PairLoss::focal(0.25, 2.0).positive(0.25), 0.25 * 0.5625 * 4f64.ln());
        close(PairLoss::focal(0.25, 2.0).negative(0.75), 0.75 * 0.5625 * 4f64.ln());
        // Half of cross entropy, as alpha = 0.5 and gamma = 0 must be.
        close(PairLoss::focal(0.5, 0.0).negative(0.3), 0.5 * PairLoss::cross_entropy().negative(0.3));
        close(prior_bias(0.5) + 1.0, 1.0);
        assert!((prior_bias(0.01) + 4.59512).abs() < 5e-6);
    }

    #[test]
    fn the_slope_is_the_derivative_by_the_logit() {
        for gamma in [0.0, 0.5, 1.0, 2.0, 5.0] {
            let loss = PairLoss { positive_weight: 1.0, negative_weight: 1.0, gamma };
            for logit in [-6.0, -1.0, 0.0, 0.7, 4.0f64] {
                let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
                let step = 1e-5;
                let rise = loss.positive(sigmoid(logit + step)) - loss.positive(sigmoid(logit - step));
                let found = loss.slope(sigmoid(logit));
                // Central differences: their own error is of the order of step squared.
                assert!((found + rise / (2.0 * step)).abs() < 1e-8, "{gamma} {logit}: {found}");
            }
        }
    }

    #[test]
    fn gradients_of_cross_entropy_are_what_is_missing_to_one() {
        let scores = Scores { positives: 10.0, negatives: 1e6, of_positives: 0.01, of_negatives: 0.01 };
        let gradients = PairLoss::cross_entropy().gradients(&scores);
        close(gradients.positive, 9.9);
        close(gradients.negative, 1e4);
        close(PairLoss::balanced(0.25).gradients(&scores).negative, 7.5e3);
    }

    #[test]
    fn shares_do_not_depend_on_counts_alone() {
        let sums = PairLoss::cross_entropy().at_prior(0.5, 100.0, 1.0, 20.0);
        close(sums.positive_share(), 0.2);
        assert_eq!(Sums::default().positive_share(), 0.0);
    }
}
