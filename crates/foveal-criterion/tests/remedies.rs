//! Each remedy for class imbalance against values computed by hand or in `f64`.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{BACKGROUND, IGNORE, ImageTargets, Positive};
use foveal_boxes::{BBox, Delta};
use foveal_criterion::{
    BreakdownLayout, ClassLossKind, ClassWeightRule, ClassWeights, LossBreakdown, LossConfig, Losses, Normalizer,
    PerClass, SmoothedPositives,
};

const ANCHORS: usize = 6;
const CLASSES: usize = 2;

fn positive(anchor: u32, class: u32, object: BBox) -> Positive {
    let delta = Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 };
    Positive { anchor, class, anchor_box: BBox::new(0.0, 0.0, 10.0, 10.0), object, delta }
}

/// Anchor 0 has an object of class 1, anchor 3 one of class 0, and anchor 5 is ignored. The IoUs of the objects with
/// their anchors are 1/2 and 1.
fn image() -> ImageTargets {
    let objects = [BBox::new(0.0, 0.0, 10.0, 5.0), BBox::new(0.0, 0.0, 10.0, 10.0)];
    ImageTargets {
        classes: vec![1, BACKGROUND, BACKGROUND, 0, BACKGROUND, IGNORE],
        positives: vec![positive(0, 1, objects[0]), positive(3, 0, objects[1])],
    }
}

const LOGITS: [f32; ANCHORS * CLASSES] = [-1.0, 0.5, -3.0, -2.0, 0.25, -4.0, 1.5, -0.5, -5.0, -6.0, 9.0, 9.0];

fn run(config: &LossConfig, targets: &[ImageTargets]) -> (Losses, Vec<f32>) {
    let device = Device::flex().autodiff();
    let logits: Vec<f32> = targets.iter().flat_map(|_| LOGITS).collect();
    let logits = Tensor::<3>::from_data(TensorData::new(logits, [targets.len(), ANCHORS, CLASSES]), &device);
    let logits = logits.require_grad();
    let deltas = Tensor::zeros([targets.len(), ANCHORS, 4], &device);
    let layout = BreakdownLayout { level_anchors: [3, 2, 1, 0, 0] };
    let losses = config.forward_with(logits.clone(), deltas, targets, Normalizer::Positives(2), Some(layout));
    let grads = losses.class.backward();
    let grad = logits.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
    (losses, grad)
}

fn value(losses: &Losses) -> f64 {
    f64::from(losses.class.clone().into_scalar::<f32>())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The loss of one pair by its definition.
fn pair(x: f32, is: bool, alpha: f64, gamma: f64) -> f64 {
    let p = sigmoid(f64::from(x));
    if is { -alpha * (1.0 - p).powf(gamma) * p.ln() } else { -(1.0 - alpha) * p.powf(gamma) * (1.0 - p).ln() }
}

/// The sum of `of(anchor, class, is positive)` over all pairs of the given anchors, divided by the two positives.
fn sum(anchors: &[usize], of: impl Fn(usize, usize, bool) -> f64) -> f64 {
    let classes = &image().classes;
    let pairs = anchors.iter().flat_map(|a| (0..CLASSES).map(move |c| (*a, c)));
    pairs.map(|(a, c)| of(a, c, classes[a] == c as i32)).sum::<f64>() / 2.0
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 2e-6 * expected.abs(), "{found}, not {expected}");
}

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

#[test]
fn ohem_keeps_the_costliest_background_anchors() {
    // The sums of softplus are 0.826 + 0.018 for anchor 2, 0.049 + 0.127 for anchor 1, 0.007 + 0.002 for anchor 4.
    for (ratio, kept) in [(0.5, vec![0, 2, 3]), (1.0, vec![0, 1, 2, 3]), (3.0, ALL.to_vec())] {
        let config = LossConfig { kind: ClassLossKind::Ohem, ohem_ratio: ratio, ..LossConfig::default() };
        let (losses, grad) = run(&config, &[image()]);
        near(value(&losses), sum(&kept, |a, c, is| 2.0 * pair(LOGITS[a * CLASSES + c], is, 0.5, 0.0)));
        for anchor in 0..ANCHORS {
            let has_gradient = grad[anchor * CLASSES..][..CLASSES].iter().any(|g| *g != 0.0);
            assert_eq!(has_gradient, kept.contains(&anchor), "ratio {ratio}, anchor {anchor}");
        }
        let ignored: u64 = losses.breakdown.unwrap().counts.levels.iter().map(|l| l.ignored).sum();
        assert_eq!(ignored as usize, ANCHORS - kept.len());
    }
}

#[test]
fn ohem_selects_in_each_image_and_keeps_background_of_images_without_objects() {
    let config = LossConfig { kind: ClassLossKind::Ohem, ohem_ratio: 1.0, ..LossConfig::default() };
    let empty = ImageTargets { classes: vec![BACKGROUND; ANCHORS], positives: Vec::new() };
    let (_, grad) = run(&config, &[image(), empty]);
    let with: Vec<usize> = (0..2 * ANCHORS).filter(|a| grad[a * CLASSES] != 0.0).collect();
    // Two background anchors of the first image in addition to its positives; the one with logits of 9 of the second.
    assert_eq!(with, [0, 1, 2, 3, ANCHORS + 5]);
}

#[test]
fn alpha_and_gamma_by_class() {
    let (alpha, gamma) = ([0.25, 0.9], [2.0, 0.5]);
    let config = LossConfig {
        alpha: PerClass::Each(alpha.to_vec()),
        gamma: PerClass::Each(gamma.to_vec()),
        ..LossConfig::default()
    };
    let (losses, _) = run(&config, &[image()]);
    near(value(&losses), sum(&ALL, |a, c, is| pair(LOGITS[a * CLASSES + c], is, alpha[c], gamma[c])));
    // A list of equal numbers gives the same loss as the number.
    let list = LossConfig { alpha: PerClass::Each(vec![0.25; 2]), gamma: PerClass::Each(vec![2.0; 2]), ..config };
    near(value(&run(&list, &[image()]).0), value(&run(&LossConfig::default(), &[image()]).0));
}

#[test]
fn class_weights_scale_the_anchors_of_a_class() {
    let weights = [0.5, 3.0];
    let weighted = LossConfig { class_weights: ClassWeights::Each(weights.to_vec()), ..LossConfig::default() };
    let (losses, _) = run(&weighted, &[image()]);
    let classes = image().classes;
    let of_anchor = |a: usize| usize::try_from(classes[a]).map_or(1.0, |c| weights[c]);
    near(value(&losses), sum(&ALL, |a, c, is| of_anchor(a) * pair(LOGITS[a * CLASSES + c], is, 0.25, 2.0)));
    // Weights from counts of 30 and 10 objects: 1/30 and 1/10 over their mean are 0.5 and 1.5.
    let rule = |rule| LossConfig { class_weights: ClassWeights::Rule(rule), ..LossConfig::default() };
    let inverse = rule(ClassWeightRule::InverseFrequency).with_counts(&[30, 10]);
    let ClassWeights::Each(found) = inverse.class_weights else { panic!("{inverse:?}") };
    assert!((found[0] - 0.5).abs() < 1e-12 && (found[1] - 1.5).abs() < 1e-12, "{found:?}");
    assert_eq!(rule(ClassWeightRule::None).with_counts(&[30, 10]), LossConfig::default());
    // Effective number by hand with beta 0.5: 0.5 / (1 - 0.25) = 2/3 and 0.5 / 0.5 = 1, over 5/6.
    let effective =
        LossConfig { class_weight_beta: 0.5, ..rule(ClassWeightRule::EffectiveNumber) }.with_counts(&[2, 1]);
    let ClassWeights::Each(found) = effective.class_weights else { panic!("{effective:?}") };
    assert!((found[0] - 0.8).abs() < 1e-12 && (found[1] - 1.2).abs() < 1e-12, "{found:?}");
}

/// Quality focal loss (arXiv 2006.04388, equation 2).
fn quality_focal(x: f64, quality: f64, beta: f64) -> f64 {
    let p = sigmoid(x);
    (quality - p).abs().powf(beta) * -((1.0 - quality) * (1.0 - p).ln() + quality * p.ln())
}

#[test]
fn quality_focal_loss_is_its_definition_with_its_derivative() {
    for beta in [1.0, 2.0, 2.5] {
        for weights in [None, Some(vec![0.5, 3.0])] {
            let class_weights = match &weights {
                Some(weights) => ClassWeights::Each(weights.clone()),
                None => LossConfig::default().class_weights,
            };
            let kind = ClassLossKind::QualityFocal;
            let config = LossConfig { kind, gamma: beta.into(), class_weights, ..LossConfig::default() };
            let (losses, grad) = run(&config, &[image()]);
            let classes = image().classes;
            let of_anchor = |a: usize| match (&weights, usize::try_from(classes[a])) {
                (Some(weights), Ok(class)) => weights[class],
                _ => 1.0,
            };
            // The predicted boxes equal the anchors, so the IoUs are 1/2 (anchor 0) and 1 (anchor 3).
            let quality = |a: usize, is: bool| if !is { 0.0 } else { [0.5, 0.0, 0.0, 1.0][a] };
            let at = |a: usize, c: usize, is: bool, step: f64| {
                of_anchor(a) * quality_focal(f64::from(LOGITS[a * CLASSES + c]) + step, quality(a, is), beta)
            };
            near(value(&losses), sum(&ALL, |a, c, is| at(a, c, is, 0.0)));
            let (mut slopes, step) = ([0.0; 2], 1e-5);
            for anchor in ALL {
                for class in 0..CLASSES {
                    let is = classes[anchor] == class as i32;
                    let slope = (at(anchor, class, is, step) - at(anchor, class, is, -step)) / (4.0 * step);
                    let found = f64::from(grad[anchor * CLASSES + class]);
                    assert!(
                        (found - slope).abs() <= 2e-5 * slope.abs() + 1e-7,
                        "{anchor} {class}: {found}, not {slope}"
                    );
                    slopes[usize::from(!is)] += slope.abs();
                }
            }
            let breakdown = losses.breakdown.clone().unwrap();
            let values: Vec<f32> = breakdown.values.into_data().try_to_vec().unwrap();
            let breakdown = LossBreakdown::read(breakdown.counts, &values);
            let record = breakdown.record();
            let positive = sum(&[0, 3], |a, c, is| if is { at(a, c, is, 0.0) } else { 0.0 });
            near(record.positive.loss, positive);
            near(record.positive.loss + record.negative.loss, value(&losses));
            assert!((record.positive.gradient - slopes[0]).abs() <= 1e-5 * slopes[0], "{record:?} {slopes:?}");
            assert!((record.negative.gradient - slopes[1]).abs() <= 1e-5 * slopes[1], "{record:?} {slopes:?}");
            // Anchor 0 is on the first level and has class 1; anchor 3 is on the second level and has class 0.
            near(breakdown.sums.positive[0].loss, breakdown.sums.positive_by_class[1]);
            near(breakdown.sums.positive[1].loss, breakdown.sums.positive_by_class[0]);
            near(record.positive.mean_p_t, (sigmoid(0.5) + sigmoid(1.5)) / 2.0);
        }
    }
}

/// The IoU is a constant of the quality focal loss: the boxes are trained by the box loss alone.
#[test]
fn the_quality_carries_no_gradient() {
    let device = Device::flex().autodiff();
    let logits = Tensor::<3>::from_data(TensorData::new(LOGITS.to_vec(), [1, ANCHORS, CLASSES]), &device);
    let (logits, deltas) = (logits.require_grad(), Tensor::<3>::zeros([1, ANCHORS, 4], &device).require_grad());
    let config = LossConfig { kind: ClassLossKind::QualityFocal, ..LossConfig::default() };
    let losses = config.forward(logits.clone(), deltas.clone(), &[image()], Normalizer::Positives(2));
    let grads = losses.class.backward();
    assert!(logits.grad(&grads).is_some());
    assert!(deltas.grad(&grads).is_none());
}

/// A permuted view of the predictions gives the same losses and gradients as a tensor in row-major order.
#[test]
#[allow(deprecated)] // burn-ndarray is deprecated upstream and supported here
fn the_layout_of_the_predictions_does_not_matter() {
    let turned: Vec<f32> = (0..CLASSES * ANCHORS).map(|i| LOGITS[i % ANCHORS * CLASSES + i / ANCHORS]).collect();
    let config = LossConfig { kind: ClassLossKind::QualityFocal, ..LossConfig::default() };
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        let run = |logits: Tensor<3>, turn: bool| {
            let leaf = logits.require_grad();
            let (logits, deltas) = (leaf.clone(), Tensor::<3>::ones([1, 4, ANCHORS], &device).require_grad());
            let logits = if turn { logits.swap_dims(1, 2) } else { logits };
            let losses = config.forward(logits, deltas.clone().swap_dims(1, 2), &[image()], Normalizer::Positives(2));
            let grads = losses.total.backward();
            let read = |t: Tensor<3>| t.into_data().try_to_vec::<f32>().unwrap();
            let grad = leaf.grad(&grads).unwrap();
            let grad = if turn { grad.swap_dims(1, 2) } else { grad };
            (read(losses.total.reshape([1, 1, 1])), read(grad), read(deltas.grad(&grads).unwrap()))
        };
        let data =
            |values: &[f32], dims: [usize; 3]| Tensor::from_data(TensorData::new(values.to_vec(), dims), &device);
        let plain = run(data(&LOGITS, [1, ANCHORS, CLASSES]), false);
        assert_eq!(run(data(&turned, [1, CLASSES, ANCHORS]), true), plain);
    }
}

#[test]
fn the_moving_normalizer_is_detectron2s() {
    // Detectron2: _ema_update("loss_normalizer", max(num_pos, 1), 100), so 0.9 * 100 + 0.1 * 20 = 92, then
    // 0.9 * 92 + 0.1 * 1 = 82.9.
    let mut average = SmoothedPositives::default();
    assert!((average.update(20) - 92.0).abs() < 1e-12);
    assert!((average.update(0) - 82.9).abs() < 1e-12);
    let config = LossConfig::default();
    let device = Device::flex();
    let logits = Tensor::<3>::from_data(TensorData::new(LOGITS.to_vec(), [1, ANCHORS, CLASSES]), &device);
    let deltas = Tensor::ones([1, ANCHORS, 4], &device);
    let loss = |n| config.forward(logits.clone(), deltas.clone(), &[image()], n);
    let (whole, part) = (loss(Normalizer::Positives(1)), loss(Normalizer::Smoothed(82.9)));
    near(value(&part), value(&whole) / 82.9);
    let boxes = |l: &Losses| f64::from(l.boxes.clone().into_scalar::<f32>());
    near(boxes(&part), boxes(&whole) / 82.9);
}

#[test]
fn breakdowns_of_images_add_up_under_every_normalizer() {
    let empty = ImageTargets { classes: vec![BACKGROUND; ANCHORS], positives: Vec::new() };
    let images = [image(), empty];
    let device = Device::flex();
    let logits: Vec<f32> = images.iter().flat_map(|_| LOGITS).collect();
    let logits = Tensor::<3>::from_data(TensorData::new(logits, [2, ANCHORS, CLASSES]), &device);
    let layout = BreakdownLayout { level_anchors: [3, 2, 1, 0, 0] };
    for normalizer in [Normalizer::Positives(2), Normalizer::Images(2), Normalizer::Smoothed(50.0)] {
        let config = LossConfig::default();
        let deltas = Tensor::zeros([2, ANCHORS, 4], &device);
        let losses = config.forward_with(logits.clone(), deltas, &images, normalizer, Some(layout));
        let class = value(&losses);
        let breakdown = losses.breakdown.clone().unwrap();
        let values: Vec<f32> = breakdown.values.into_data().try_to_vec().unwrap();
        let record = LossBreakdown::read(breakdown.counts, &values).record();
        near(record.positive.loss + record.negative.loss, class);
        let levels: f64 = record.levels.iter().map(|l| l.positive_loss + l.negative_loss).sum();
        near(levels, class);
        let classes = record.classes.positive_loss.iter().chain(&record.classes.negative_loss).sum::<f64>();
        assert!((classes - class).abs() <= 1e-4 * class, "{classes} {class}");
        // Two positive pairs. Negative pairs: two classes of three and six background anchors, and the other class of
        // the two positive anchors.
        assert_eq!((record.positive.pairs, record.negative.pairs, record.ignored), (2.0, 20.0, 1.0));
    }
}
