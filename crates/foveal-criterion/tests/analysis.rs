//! The closed form against the losses of the criterion, and against published values in all their digits.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{BACKGROUND, ImageTargets, Positive};
use foveal_boxes::{BBox, Delta};
use foveal_criterion::{ClassLossKind, LossConfig, Normalizer, PairLoss, Scores};

/// Asserts equality in all digits of a published value: the difference is at most half a unit of the last digit.
#[track_caller]
fn same_digits(found: f64, published: &str) {
    let value: f64 = published.parse().unwrap();
    let digits = published.split('e').next().unwrap().trim_start_matches(['0', '.']).replace('.', "").len() as i32;
    let unit = 10f64.powi(value.abs().log10().floor() as i32 + 1 - digits);
    assert!((found - value).abs() <= 0.5 * unit, "{found} is not {published}");
}

#[test]
fn the_seed_example() {
    let scores = Scores { positives: 10.0, negatives: 1e6, of_positives: 0.01, of_negatives: 0.01 };
    same_digits(PairLoss::cross_entropy().sums(&scores).positive_share(), "0.004561206");
    same_digits(PairLoss::focal(0.25, 2.0).sums(&scores).positive_share(), "0.9373816");
}

#[test]
fn the_step_0_table() {
    let rows = [
        (PairLoss::balanced(0.5), 0.5, "2.5e-6", "138629.4"),
        (PairLoss::balanced(0.5), 0.01, "1.14422e-3", "2012.365"),
        (PairLoss::focal(0.25, 2.0), 0.5, "8.3333e-7", "51985.95"),
        (PairLoss::focal(0.25, 2.0), 0.01, "0.789138", "1.429891"),
        (PairLoss::focal(0.25, 2.0), 0.1, "1.47300e-3", "316.5470"),
    ];
    for (loss, prior, share, each) in rows {
        let sums = loss.at_prior(prior, 100_000.0, 80.0, 20.0);
        same_digits(sums.positive_share(), share);
        same_digits(sums.total() / 20.0, each);
    }
}

/// Seven anchors and two classes; three anchors are positive. All positives have one score and all negatives another.
#[test]
fn the_closed_form_is_the_criterions() {
    let unit = BBox::new(0.0, 0.0, 1.0, 1.0);
    let zero = Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 };
    let positive = |i: u32| Positive { anchor: i, class: 0, anchor_box: unit, object: unit, delta: zero };
    let mut classes = vec![BACKGROUND; 7];
    classes[..3].fill(0);
    let targets = [ImageTargets { classes, positives: (0..3).map(positive).collect() }];
    let device = Device::flex();
    for (alpha, gamma) in [(0.25, 2.0), (0.5, 0.0), (0.9, 0.5), (0.1, 5.0)] {
        for (kind, pair) in [
            (ClassLossKind::Focal, PairLoss::focal(alpha, gamma)),
            (ClassLossKind::CrossEntropy, PairLoss::cross_entropy()),
            (ClassLossKind::BalancedCrossEntropy, PairLoss::balanced(alpha)),
        ] {
            for [of_positives, of_negatives] in [[0.01, 0.01], [0.9, 0.2], [0.3, 0.99]] {
                let config = LossConfig { kind, alpha: alpha.into(), gamma: gamma.into(), ..LossConfig::default() };
                let logit = |p: f64| (p / (1.0 - p)).ln() as f32;
                let mut logits = vec![logit(of_negatives); 14];
                (0..3).for_each(|i| logits[2 * i] = logit(of_positives));
                let logits = Tensor::<3>::from_data(TensorData::new(logits, [1, 7, 2]), &device);
                let deltas = Tensor::zeros([1, 7, 4], &device);
                let losses = config.forward(logits, deltas, &targets, Normalizer::Positives(1));
                let found: Vec<f32> = losses.class_sums.into_data().try_to_vec().unwrap();
                let scores = Scores { positives: 3.0, negatives: 11.0, of_positives, of_negatives };
                let sums = pair.sums(&scores);
                for (found, expected) in found.into_iter().zip([sums.positive, sums.negative]) {
                    // The kernel computes each pair in f32 with an error of a few units in the last place.
                    assert!((f64::from(found) - expected).abs() <= 2e-6 * expected, "{config:?}: {found}, {expected}");
                }
            }
        }
    }
}
