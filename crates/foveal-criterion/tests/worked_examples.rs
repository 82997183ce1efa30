//! Worked examples of the focal loss, computed by the losses of the criterion: the example of the focal-loss blog
//! (1,000,000 easy negatives and 10 hard positives), and the table of first losses (100,000 anchors, 20 positives,
//! 80 classes, every score equal to the prior).

use burn::tensor::{Device, Tensor};
use foveal_anchors::{BACKGROUND, ImageTargets, Positive};
use foveal_boxes::{BBox, Delta};
use foveal_criterion::{ClassLossKind, LossConfig, Losses, Normalizer};

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// The first `positives` of `anchors` hold an object of class 0.
fn targets(anchors: usize, positives: usize) -> ImageTargets {
    let unit = BBox::new(0.0, 0.0, 1.0, 1.0);
    let zero = Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 };
    let positive = |i: usize| Positive { anchor: i as u32, class: 0, anchor_box: unit, object: unit, delta: zero };
    let mut classes = vec![BACKGROUND; anchors];
    classes[..positives].fill(0);
    ImageTargets { classes, positives: (0..positives).map(positive).collect() }
}

fn run(config: &LossConfig, logits: Tensor<3>, targets: &ImageTargets) -> Losses {
    let deltas = Tensor::zeros([1, logits.dims()[1], 4], &logits.device());
    let normalizer = Normalizer::of(config.normalizer, [targets]);
    config.forward(logits, deltas, std::slice::from_ref(targets), normalizer)
}

/// The positives' fraction of the class loss, and the loss divided by the number of positives.
fn share_and_loss(losses: Losses) -> (f64, f64) {
    let sums: Vec<f32> = losses.class_sums.into_data().try_to_vec().unwrap();
    let class: f32 = losses.class.into_scalar();
    (f64::from(sums[0]) / (f64::from(sums[0]) + f64::from(sums[1])), f64::from(class))
}

fn config(kind: ClassLossKind, alpha: f64, gamma: f64) -> LossConfig {
    LossConfig { kind, alpha: alpha.into(), gamma: gamma.into(), ..LossConfig::default() }
}

/// Asserts equality in all digits of a published value: the difference is at most half a unit of the last digit plus
/// the rounding of `f32`.
fn same_digits(found: f64, published: &str) {
    let value: f64 = published.parse().unwrap();
    let digits = published.split('e').next().unwrap().trim_start_matches(['0', '.']).replace('.', "").len() as i32;
    let unit = 10f64.powi(value.abs().log10().floor() as i32 + 1 - digits);
    let tolerance = 0.5 * unit + 2.0 * f64::from(f32::EPSILON) * value.abs();
    assert!((found - value).abs() <= tolerance, "{found} is not {published}");
}

#[test]
fn the_seed_example() {
    let (positives, negatives) = (10, 1_000_000);
    let device = Device::flex();
    let value = logit(0.01);
    let logits = Tensor::<3>::full([1, positives + negatives, 1], value, &device);
    let targets = targets(positives + negatives, positives);
    let share = |c| share_and_loss(run(&c, logits.clone(), &targets)).0;
    same_digits(share(config(ClassLossKind::CrossEntropy, 0.25, 2.0)), "0.004561206");
    same_digits(share(config(ClassLossKind::Focal, 0.25, 2.0)), "0.9373816");
}

#[test]
fn the_step_0_table() {
    use ClassLossKind::{BalancedCrossEntropy, Focal};
    let device = Device::flex();
    let targets = targets(100_000, 20);
    let rows = [
        (BalancedCrossEntropy, 0.5, 0.5, "2.5e-6", "138629.4"),
        (BalancedCrossEntropy, 0.5, 0.01, "1.14422e-3", "2012.365"),
        (Focal, 0.25, 0.5, "8.3333e-7", "51985.95"),
        (Focal, 0.25, 0.01, "0.789138", "1.429891"),
        (Focal, 0.25, 0.1, "1.47300e-3", "316.5470"),
    ];
    for (kind, alpha, prior, share, loss) in rows {
        let logits = Tensor::<3>::full([1, 100_000, 80], logit(prior), &device);
        let found = share_and_loss(run(&config(kind, alpha, 2.0), logits, &targets));
        same_digits(found.0, share);
        same_digits(found.1, loss);
    }
}

#[test]
fn focal_loss_without_focus_is_balanced_cross_entropy() {
    let device = Device::flex();
    let logits = Tensor::<1>::from_floats([-2.0, 0.5, 3.0, -0.1, 1.0, 0.0], &device).reshape([1, 3, 2]);
    let targets = targets(3, 1);
    let loss = |c| share_and_loss(run(&c, logits.clone(), &targets)).1;
    let balanced = loss(config(ClassLossKind::BalancedCrossEntropy, 0.3, 2.0));
    assert!((loss(config(ClassLossKind::Focal, 0.3, 0.0)) - balanced).abs() < 1e-6);
    let half = loss(config(ClassLossKind::Focal, 0.5, 0.0));
    assert!((half - 0.5 * loss(config(ClassLossKind::CrossEntropy, 0.25, 2.0))).abs() < 1e-6);
}
