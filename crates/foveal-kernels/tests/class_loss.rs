//! Compares the class losses with their definition in `f64` and with published values.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use common::classes::*;
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

fn definition(logits: &[f32], classes: &[i32], p: ClassLossParams) -> Run {
    let width = logits.len() / classes.len();
    let mut sums = [0f64; 2];
    let mut grad = Vec::new();
    for (i, x) in logits.iter().enumerate() {
        let class = classes[i / width];
        let positive = class == (i % width) as i32;
        let [loss, slope] = if class == IGNORE { [0.0; 2] } else { scalar(f64::from(*x), positive, p) };
        sums[usize::from(!positive)] += loss;
        grad.push(slope as f32);
    }
    Run { loss: (sums[0] + sums[1]) as f32, sums: sums.map(|s| s as f32).to_vec(), grad }
}

fn check(logits: &[f32], classes: &[i32], p: ClassLossParams, device: &Device) {
    let (got, expected) = (run(logits, classes, p, device, 1.0), definition(logits, classes, p));
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-6 * b.abs() + 1e-12;
    assert!(near(got.loss, expected.loss), "{p:?}: loss {} not {}", got.loss, expected.loss);
    for (a, b) in got.sums.iter().zip(&expected.sums) {
        assert!(near(*a, *b), "{p:?}: sums {:?} not {:?}", got.sums, expected.sums);
    }
    // Most entries of a gradient are tiny compared with the largest, so the tolerance is relative to each entry.
    for (i, (a, b)) in got.grad.iter().zip(&expected.grad).enumerate() {
        assert!((a - b).abs() <= 3e-6 * b.abs() + 1e-12, "{p:?}: gradient {i} is {a:e}, not {b:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equals_its_definition(width in 1usize..100, seed in 0u64..1000, picks in prop::collection::vec(-2i32..100, 1..60)) {
        let _guard = fused_kernels();
        let classes: Vec<i32> = picks.into_iter().map(|c| c.min(width as i32 - 1)).collect();
        let logits: Vec<f32> = values(seed, width * classes.len()).into_iter().map(|v| v * 8.0).collect();
        for p in all_kinds() {
            check(&logits, &classes, p, &Device::flex().autodiff());
        }
        check(&logits, &classes, focal(0.25, 2.0), &Device::ndarray().autodiff());
    }
}

#[test]
fn the_composed_path_agrees() {
    let _guard = fused_kernels();
    let (logits, classes) = sample();
    for p in all_kinds() {
        for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
            let fused = run(&logits, &classes, p, &device, 0.7);
            set_reference(true);
            let reference = run(&logits, &classes, p, &device, 0.7);
            set_reference(false);
            let list = |r: Run| vec![vec![r.loss], r.sums, r.grad];
            assert_close(&format!("{p:?}"), &list(fused), &list(reference));
        }
    }
}

#[test]
fn extreme_logits_give_finite_values_and_slopes() {
    let _guard = fused_kernels();
    let logits = [100.0, -100.0, 100.0, -100.0, 1e4, -1e4, 0.0, 100.0];
    let classes = [0, 0, BACKGROUND, BACKGROUND, 0, BACKGROUND, 0, IGNORE];
    for reference in [false, true] {
        set_reference(reference);
        for gamma in [0.0, 0.5, 1.0, 2.0] {
            for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
                let r = run(&logits, &classes, focal(-1.0, gamma), &device, 1.0);
                assert!(r.loss.is_finite() && r.grad.iter().all(|g| g.is_finite()), "gamma {gamma}: {:?}", r.grad);
                // For a confident wrong prediction CE = |x| with slope 1; for a confident right one both are 0.
                let expected = [0.0, -1.0, 1.0, 0.0, 0.0, 0.0];
                for (g, e) in r.grad.iter().zip(expected) {
                    assert!((g - e).abs() < 1e-6, "gamma {gamma}: {:?}", r.grad);
                }
                assert_eq!(r.grad[7], 0.0);
                let at_zero = (0.5f32.powf(gamma) * std::f32::consts::LN_2) as f64;
                assert!((f64::from(r.loss) - 200.0 - at_zero).abs() < 1e-3, "gamma {gamma}: {}", r.loss);
            }
        }
    }
    set_reference(false);
}

#[test]
fn a_diverged_network_shows() {
    let _guard = fused_kernels();
    for gamma in [0.0, 0.5, 2.0] {
        let r = run(&[f32::NAN, 1.0], &[0, 0], focal(0.25, gamma), &Device::flex().autodiff(), 1.0);
        assert!(r.loss.is_nan());
    }
}

#[test]
fn ignored_anchors_alone_or_none_give_nothing() {
    let device = Device::flex().autodiff();
    let r = run(&[1.0, 2.0], &[IGNORE, IGNORE], focal(0.25, 2.0), &device, 1.0);
    assert_eq!((r.loss, r.sums, r.grad), (0.0, vec![0.0; 2], vec![0.0; 2]));
    let empty = class_loss(Tensor::zeros([0, 4], &device), Tensor::<1, Int>::zeros([0], &device), focal(0.25, 2.0));
    assert_eq!(to_vec(empty.loss), [0.0]);
}

#[test]
fn other_float_types_take_burns_operations() {
    let _guard = fused_kernels();
    let device = Device::flex().autodiff();
    let (logits, classes) = sample();
    let x = Tensor::<2>::from_data(TensorData::new(logits.clone(), [8, 7]), &device).cast(FloatDType::F64);
    let c = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [8]), &device);
    let loss = class_loss(x, c, focal(0.25, 2.0)).loss.into_data().try_to_vec::<f64>().expect("f64");
    let expected = f64::from(definition(&logits, &classes, focal(0.25, 2.0)).loss);
    assert!((loss[0] - expected).abs() < 1e-5 * expected);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _guard = fused_kernels();
    let logits = values(5, 80 * 3000);
    let classes: Vec<i32> = (0..3000).map(|i| if i % 50 == 0 { i % 80 } else { -1 - i32::from(i % 7 == 0) }).collect();
    assert_same_on_any_threads(|| {
        let r = run(&logits, &classes, focal(0.25, 2.0), &Device::flex().autodiff(), 0.3);
        vec![vec![r.loss], r.sums, r.grad]
    });
}

/// Loss of the positives and total loss for `positives` anchors of class 0, the rest background, with the given logits.
fn share(anchors: usize, positives: usize, width: usize, logit: f64, p: ClassLossParams) -> [f64; 2] {
    let device = Device::flex();
    let x = Tensor::<2>::full([anchors, width], logit, &device);
    let classes: Vec<i32> = (0..anchors).map(|i| if i < positives { 0 } else { BACKGROUND }).collect();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [anchors]), &device);
    let out = class_loss(x, classes, p);
    let sums = to_vec(out.sums).into_iter().map(f64::from).collect::<Vec<_>>();
    [sums[0] / (sums[0] + sums[1]), f64::from(to_vec(out.loss)[0])]
}

/// Panics unless `got` equals `expected`, which is given to `digits` significant digits. The logit of the prior is an
/// `f32`, whose rounding (half of 2^-22 at 2..4) changes a focal loss by up to 3.6e-7 of its value.
fn assert_digits(got: f64, expected: f64, digits: i32) {
    let unit = 10f64.powi(expected.abs().log10().floor() as i32 + 1 - digits);
    assert!((got - expected).abs() <= 0.51 * unit + 3.6e-7 * expected, "{got:e}, not {expected:e} to {digits} digits");
}

#[test]
fn a_million_easy_negatives_against_ten_hard_positives() {
    let _guard = fused_kernels();
    // Every logit is that of p = 0.01, so p_t is 0.99 for negatives and 0.01 for positives.
    let logit = -(99f64.ln());
    assert_digits(share(1_000_010, 10, 1, logit, kind(ClassLossKind::CrossEntropy))[0], 0.004561206, 7);
    assert_digits(share(1_000_010, 10, 1, logit, focal(0.25, 2.0))[0], 0.9373816, 7);
}

#[test]
fn the_loss_before_the_first_step() {
    let _guard = fused_kernels();
    // 100,000 anchors, 20 of them positive, 80 classes, every score equal to the prior.
    let rows = [
        (focal(0.5, 0.0), 0.5, (2.5e-6, 2), (138629.4, 7)),
        (focal(0.5, 0.0), 0.01, (1.14422e-3, 6), (2012.365, 7)),
        (focal(0.25, 2.0), 0.5, (8.3333e-7, 5), (51985.95, 7)),
        (focal(0.25, 2.0), 0.01, (0.789138, 6), (1.429891, 7)),
        (focal(0.25, 2.0), 0.1, (1.47300e-3, 6), (316.5470, 7)),
    ];
    for (p, prior, (part, part_digits), (per_positive, digits)) in rows {
        let prior: f64 = prior;
        let [got, total] = share(100_000, 20, 80, (prior / (1.0 - prior)).ln(), p);
        assert_digits(got, part, part_digits);
        assert_digits(total / 20.0, per_positive, digits);
    }
}

#[test]
#[should_panic(expected = "class 7 of 7")]
fn a_class_that_does_not_exist_is_named() {
    let (logits, mut classes) = sample();
    classes[1] = 7;
    run(&logits, &classes, focal(0.25, 2.0), &Device::flex().autodiff(), 1.0);
}

#[test]
fn negatives_alone_leave_positives_out() {
    let _guard = fused_kernels();
    let (logits, classes) = sample();
    let p = kind(ClassLossKind::FocalNegatives);
    for reference in [false, true] {
        set_reference(reference);
        let got = run(&logits, &classes, p, &Device::flex().autodiff(), 1.0);
        set_reference(false);
        let all = run(&logits, &classes, focal(-1.0, 2.0), &Device::flex().autodiff(), 1.0);
        assert_eq!(got.sums[0], 0.0);
        assert!((got.sums[1] - all.sums[1]).abs() <= 1e-6 * all.sums[1]);
        for (i, (a, b)) in got.grad.iter().zip(&all.grad).enumerate() {
            let expected = if classes[i / 7] == (i % 7) as i32 { 0.0 } else { *b };
            assert!((a - expected).abs() <= 1e-6 * expected.abs(), "{i}: {a} {expected}");
        }
    }
}

/// The losses, sums and breakdowns of three images of different losses, and the gradient of the logits if each loss is
/// multiplied by another weight. `each` computes the losses.
fn weighted(device: &Device, each: impl Fn(Tensor<2>, Tensor<1, Int>) -> Vec<ClassLoss>) -> Vec<Vec<f32>> {
    let (logits, classes) = sample();
    let (images, rows) = (3, 3 * classes.len());
    let logits: Vec<f32> = [1.0, -0.5, 0.1].iter().flat_map(|by| logits.iter().map(move |x| x * by)).collect();
    let x = Tensor::<2>::from_data(TensorData::new(logits, [rows, 7]), device).require_grad();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.repeat(images), [rows]), device);
    let losses = each(x.clone(), classes);
    assert_eq!(losses.len(), images);
    let weighted = losses.iter().zip([0.5, 3.0, 0.0]).map(|(loss, weight)| loss.loss.clone() * weight);
    let grads = weighted.reduce(|a, b| a + b).expect("images").backward();
    let parts = losses.into_iter().flat_map(|loss| [Some(loss.loss), Some(loss.sums), loss.breakdown]);
    parts.flatten().map(to_vec).chain([to_vec(x.grad(&grads).expect("a gradient"))]).collect()
}

#[test]
fn the_losses_of_images_are_those_of_each_image_alone() {
    let _guard = fused_kernels();
    let layout = BreakdownLayout { level_anchors: [4, 2, 1, 1, 0] };
    let terms = ClassTerms { weight: vec![0.5, 2.0, 1.0, 1.5, 1.0, 1.0, 0.25], ..ClassTerms::default() };
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        for (p, terms, layout) in [
            (focal(0.25, 2.0), &ClassTerms::default(), None),
            (focal(0.25, 1.5), &terms, Some(layout)),
            (kind(ClassLossKind::CrossEntropy), &terms, None),
        ] {
            let one = |x: Tensor<2>, c: Tensor<1, Int>, image: usize| {
                class_loss_with(x.narrow(0, 8 * image, 8), c.narrow(0, 8 * image, 8), p, terms, layout)
            };
            let expected = weighted(&device, |x, c| (0..3).map(|i| one(x.clone(), c.clone(), i)).collect());
            let together = |x, c| class_losses_of_images(x, c, 3, p, terms, layout);
            assert_eq!(weighted(&device, together), expected);
            set_reference(true);
            let reference = weighted(&device, together);
            set_reference(false);
            assert_close(&format!("{p:?}"), &expected, &reference);
        }
    }
}

/// The gradient takes the memory of logits that nobody else holds.
#[test]
fn logits_that_are_not_kept_have_the_same_gradient() {
    let _guard = fused_kernels();
    let (logits, classes) = sample();
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        let of = |computed: bool| {
            let x = Tensor::<2>::from_data(TensorData::new(logits.clone(), [8, 7]), &device).require_grad();
            let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [8]), &device);
            let loss = class_loss(if computed { x.clone() * 1.0 } else { x.clone() }, classes, focal(0.25, 2.0)).loss;
            let grads = (loss.clone() * 0.3).sum().backward();
            [to_vec(loss), to_vec(x.grad(&grads).expect("a gradient")), to_vec(x)]
        };
        assert_eq!(of(true), of(false));
    }
}
