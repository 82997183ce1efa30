//! The class losses against their definition in `f64`, and the published worked figures.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use std::sync::Mutex;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

static SWITCH: Mutex<()> = Mutex::new(());

fn focal(alpha: f32, gamma: f32) -> ClassLossParams {
    ClassLossParams { kind: ClassLossKind::Focal, alpha, gamma }
}

fn kind(kind: ClassLossKind) -> ClassLossParams {
    // the gamma must not be read
    ClassLossParams { kind, alpha: 0.25, gamma: 2.0 }
}

struct Run {
    loss: f32,
    sums: Vec<f32>,
    grad: Vec<f32>,
}

fn run(logits: &[f32], classes: &[i32], p: ClassLossParams, device: &Device, scale: f32) -> Run {
    let shape = [classes.len(), logits.len() / classes.len()];
    let x = Tensor::<2>::from_data(TensorData::new(logits.to_vec(), shape), device).require_grad();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.to_vec(), [classes.len()]), device);
    let out = class_loss(x.clone(), classes, p);
    let grads = (out.loss.clone() * scale).sum().backward();
    Run { loss: to_vec(out.loss)[0], sums: to_vec(out.sums), grad: to_vec(x.grad(&grads).expect("a gradient")) }
}

/// Loss by its definition (arXiv 1708.02002, eq. 5) and derivative by the logit (appendix B), for moderate logits.
fn scalar(x: f64, positive: bool, p: ClassLossParams) -> [f64; 2] {
    let y = if positive { 1.0 } else { -1.0 };
    let truth = 1.0 / (1.0 + (-y * x).exp());
    let gamma = if p.kind == ClassLossKind::Focal { f64::from(p.gamma) } else { 0.0 };
    let alpha = f64::from(p.alpha);
    let weight = match (p.kind == ClassLossKind::CrossEntropy || alpha < 0.0, positive) {
        (true, _) => 1.0,
        (false, true) => alpha,
        (false, false) => 1.0 - alpha,
    };
    let factor = weight * (1.0 - truth).powf(gamma);
    [-factor * truth.ln(), y * factor * (gamma * truth * truth.ln() + truth - 1.0)]
}

fn reference(logits: &[f32], classes: &[i32], p: ClassLossParams) -> Run {
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

fn all_kinds() -> Vec<ClassLossParams> {
    let gammas = [0.0, 0.5, 1.0, 1.5, 2.0, 5.0];
    let focals = gammas.into_iter().flat_map(|g| [focal(0.25, g), focal(-1.0, g), focal(0.0, g)]);
    focals.chain([kind(ClassLossKind::CrossEntropy), kind(ClassLossKind::BalancedCrossEntropy)]).collect()
}

fn check(logits: &[f32], classes: &[i32], p: ClassLossParams, device: &Device) {
    let (got, expected) = (run(logits, classes, p, device, 1.0), reference(logits, classes, p));
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-6 * b.abs() + 1e-12;
    assert!(near(got.loss, expected.loss), "{p:?}: loss {} not {}", got.loss, expected.loss);
    for (a, b) in got.sums.iter().zip(&expected.sums) {
        assert!(near(*a, *b), "{p:?}: sums {:?} not {:?}", got.sums, expected.sums);
    }
    // most entries of a gradient are tiny beside its largest: each is compared with itself
    for (i, (a, b)) in got.grad.iter().zip(&expected.grad).enumerate() {
        assert!((a - b).abs() <= 3e-6 * b.abs() + 1e-12, "{p:?}: gradient {i} is {a:e}, not {b:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equals_its_definition(width in 1usize..100, seed in 0u64..1000, picks in prop::collection::vec(-2i32..100, 1..60)) {
        let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
        let classes: Vec<i32> = picks.into_iter().map(|c| c.min(width as i32 - 1)).collect();
        let logits: Vec<f32> = values(seed, width * classes.len()).into_iter().map(|v| v * 8.0).collect();
        for p in all_kinds() {
            check(&logits, &classes, p, &Device::flex().autodiff());
        }
        check(&logits, &classes, focal(0.25, 2.0), &Device::ndarray().autodiff());
    }
}

/// Logits, and anchors of every role.
fn sample() -> (Vec<f32>, Vec<i32>) {
    let classes = vec![BACKGROUND, 3, IGNORE, BACKGROUND, 0, 6, IGNORE, BACKGROUND];
    (values(3, 7 * classes.len()).into_iter().map(|v| v * 6.0).collect(), classes)
}

#[test]
fn the_composed_path_agrees() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let (logits, classes) = sample();
    for p in all_kinds() {
        for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
            let own = run(&logits, &classes, p, &device, 0.7);
            set_plain(true);
            let plain = run(&logits, &classes, p, &device, 0.7);
            set_plain(false);
            let list = |r: Run| vec![vec![r.loss], r.sums, r.grad];
            assert_close(&format!("{p:?}"), &list(own), &list(plain));
        }
    }
}

#[test]
fn extreme_logits_give_finite_values_and_slopes() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let logits = [100.0, -100.0, 100.0, -100.0, 1e4, -1e4, 0.0, 100.0];
    let classes = [0, 0, BACKGROUND, BACKGROUND, 0, BACKGROUND, 0, IGNORE];
    for plain in [false, true] {
        set_plain(plain);
        for gamma in [0.0, 0.5, 1.0, 2.0] {
            for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
                let r = run(&logits, &classes, focal(-1.0, gamma), &device, 1.0);
                assert!(r.loss.is_finite() && r.grad.iter().all(|g| g.is_finite()), "gamma {gamma}: {:?}", r.grad);
                // certain and wrong: CE = |x| with slope 1; certain and right: nothing
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
    set_plain(false);
}

#[test]
fn a_diverged_network_shows() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
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
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let device = Device::flex().autodiff();
    let (logits, classes) = sample();
    let x = Tensor::<2>::from_data(TensorData::new(logits.clone(), [8, 7]), &device).cast(FloatDType::F64);
    let c = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [8]), &device);
    let loss = class_loss(x, c, focal(0.25, 2.0)).loss.into_data().try_to_vec::<f64>().expect("f64");
    let expected = f64::from(reference(&logits, &classes, focal(0.25, 2.0)).loss);
    assert!((loss[0] - expected).abs() < 1e-5 * expected);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let logits = values(5, 80 * 3000);
    let classes: Vec<i32> = (0..3000).map(|i| if i % 50 == 0 { i % 80 } else { -1 - i32::from(i % 7 == 0) }).collect();
    assert_same_on_any_threads(|| {
        let r = run(&logits, &classes, focal(0.25, 2.0), &Device::flex().autodiff(), 0.3);
        vec![vec![r.loss], r.sums, r.grad]
    });
}

/// Positives' share and total of `positives` anchors of class 0 and the rest background, each logit given.
fn share(anchors: usize, positives: usize, width: usize, logit: f64, p: ClassLossParams) -> [f64; 2] {
    let device = Device::flex();
    let x = Tensor::<2>::full([anchors, width], logit, &device);
    let classes: Vec<i32> = (0..anchors).map(|i| if i < positives { 0 } else { BACKGROUND }).collect();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [anchors]), &device);
    let out = class_loss(x, classes, p);
    let sums = to_vec(out.sums).into_iter().map(f64::from).collect::<Vec<_>>();
    [sums[0] / (sums[0] + sums[1]), f64::from(to_vec(out.loss)[0])]
}

/// Panics unless `got` is `figure`, which was given to `digits` significant digits. The logit of the prior is an `f32`
/// itself: its rounding (half of 2^-22 at 2..4) moves a focal loss by up to 3.6e-7 of its value.
fn assert_digits(got: f64, figure: f64, digits: i32) {
    let unit = 10f64.powi(figure.abs().log10().floor() as i32 + 1 - digits);
    assert!((got - figure).abs() <= 0.51 * unit + 3.6e-7 * figure, "{got:e}, not {figure:e} to {digits} digits");
}

#[test]
fn a_million_easy_negatives_against_ten_hard_positives() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    // every logit is that of p = 0.01: p_t = 0.99 for negatives, 0.01 for positives
    let logit = -(99f64.ln());
    assert_digits(share(1_000_010, 10, 1, logit, kind(ClassLossKind::CrossEntropy))[0], 0.004561206, 7);
    assert_digits(share(1_000_010, 10, 1, logit, focal(0.25, 2.0))[0], 0.9373816, 7);
}

#[test]
fn the_loss_before_the_first_step() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    // 100,000 anchors, 20 positives, 80 classes, every score the prior's
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

/// A ledger by its definition, in `f64`: `levels` anchors of each level, one image after the other.
fn ledger_reference(
    logits: &[f32],
    classes: &[i32],
    p: ClassLossParams,
    terms: &ClassTerms,
    layout: LedgerLayout,
) -> LedgerSums {
    let width = logits.len() / classes.len();
    let mut sums = LedgerSums::zero(width);
    for (i, x) in logits.iter().enumerate() {
        let (anchor, column) = (i / width, i % width);
        let class = classes[anchor];
        if class == IGNORE {
            continue;
        }
        let mut place = anchor % layout.anchors();
        let level = layout.level_anchors.iter().position(|n| {
            let inside = place < *n;
            place = place.wrapping_sub(*n);
            inside
        });
        let positive = class == column as i32;
        let of = |list: &[f32], other: f32| list.get(column).copied().unwrap_or(other);
        let own = ClassLossParams { alpha: of(&terms.alpha, p.alpha), gamma: of(&terms.gamma, p.gamma), ..p };
        let weight = usize::try_from(class).ok().and_then(|c| terms.weight.get(c)).map_or(1.0, |w| f64::from(*w));
        let [loss, slope] = scalar(f64::from(*x), positive, own).map(|v| weight * v);
        let score = 1.0 / (1.0 + (-f64::from(*x)).exp());
        let side = if positive { &mut sums.positive } else { &mut sums.negative };
        let side = &mut side[level.expect("a level")];
        (side.loss, side.gradient, side.score) = (side.loss + loss, side.gradient + slope.abs(), side.score + score);
        if positive {
            sums.positive_by_class[column] += loss;
        } else {
            sums.negative_by_class[column] += loss;
            let bin =
                (0..LEDGER_BINS).rev().find(|b| loss >= f64::from(ledger_bin_start(*b))).expect("bin 0 starts at 0");
            sums.bins[bin].count += 1.0;
            sums.bins[bin].loss += loss;
        }
    }
    sums
}

/// Losses, gradient and ledger with all switches on.
fn run_with(
    logits: &[f32],
    classes: &[i32],
    p: ClassLossParams,
    terms: &ClassTerms,
    layout: LedgerLayout,
    device: &Device,
) -> (Run, Vec<f32>) {
    let shape = [classes.len(), logits.len() / classes.len()];
    let x = Tensor::<2>::from_data(TensorData::new(logits.to_vec(), shape), device).require_grad();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(classes.to_vec(), [classes.len()]), device);
    let out = class_loss_with(x.clone(), ids, p, terms, Some(layout));
    let grads = out.loss.clone().sum().backward();
    let run =
        Run { loss: to_vec(out.loss)[0], sums: to_vec(out.sums), grad: to_vec(x.grad(&grads).expect("a gradient")) };
    (run, to_vec(out.ledger.expect("it was asked for")))
}

/// Compares to 1e-5; losses next to a bin's edge may lie on either side of it.
fn check_ledger(what: &str, found: &[f32], expected: &LedgerSums) {
    let width = expected.positive_by_class.len();
    let found = LedgerSums::read(found, width);
    let near = |name: &str, a: f64, b: f64| {
        assert!((a - b).abs() <= 1e-5 * b.abs() + 1e-9, "{what}: {name} is {a:e}, not {b:e}");
    };
    for (a, b) in found.positive.iter().chain(&found.negative).zip(expected.positive.iter().chain(&expected.negative)) {
        near("loss", a.loss, b.loss);
        near("gradient", a.gradient, b.gradient);
        near("score", a.score, b.score);
    }
    let by_class = |s: &LedgerSums| [s.positive_by_class.clone(), s.negative_by_class.clone()].concat();
    by_class(&found).iter().zip(by_class(expected)).for_each(|(a, b)| near("loss by class", *a, b));
    let total = |s: &LedgerSums| s.bins.iter().fold([0.0; 2], |[c, l], b| [c + b.count, l + b.loss]);
    near("negatives", total(&found)[0], total(expected)[0]);
    near("their loss", total(&found)[1], total(expected)[1]);
    let differ: f64 = found.bins.iter().zip(&expected.bins).map(|(a, b)| (a.count - b.count).abs()).sum();
    assert!(differ <= 2.0 + 1e-4 * total(expected)[0], "{what}: {differ} negatives in other bins");
}

fn layout_of(anchors: usize) -> LedgerLayout {
    // Some levels hold nothing; the last has what is left.
    let parts = [anchors / 2, 0, anchors / 4, anchors / 8];
    let rest = anchors - parts.iter().sum::<usize>();
    LedgerLayout { level_anchors: [parts[0], parts[1], parts[2], parts[3], rest] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_ledger_equals_its_definition(
        width in 1usize..100,
        seed in 0u64..1000,
        images in 1usize..3,
        picks in prop::collection::vec(-2i32..100, 1..60),
        lists in any::<bool>(),
    ) {
        let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
        let layout = layout_of(picks.len());
        let classes: Vec<i32> = picks.iter().cycle().take(picks.len() * images).map(|c| (*c).min(width as i32 - 1)).collect();
        let logits: Vec<f32> = values(seed, width * classes.len()).into_iter().map(|v| v * 8.0).collect();
        let list = |low: f32, step: f32| (0..width).map(|c| low + step * (c % 7) as f32).collect::<Vec<f32>>();
        let terms = if lists {
            ClassTerms { alpha: list(0.1, 0.1), gamma: list(0.0, 0.5), weight: list(0.5, 0.3) }
        } else {
            ClassTerms::default()
        };
        for p in [focal(0.25, 2.0), focal(-1.0, 0.5), kind(ClassLossKind::CrossEntropy)] {
            // Cross entropy reads no lists.
            let terms = if p.kind == ClassLossKind::Focal && p.alpha > 0.0 { terms.clone() } else { ClassTerms::default() };
            let expected = ledger_reference(&logits, &classes, p, &terms, layout);
            for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
                let (own, ledger) = run_with(&logits, &classes, p, &terms, layout, &device);
                check_ledger(&format!("{p:?}"), &ledger, &expected);
                set_plain(true);
                let (plain, plain_ledger) = run_with(&logits, &classes, p, &terms, layout, &device);
                set_plain(false);
                check_ledger(&format!("plain {p:?}"), &plain_ledger, &expected);
                let list = |r: Run| vec![vec![r.loss], r.sums, r.grad];
                assert_close(&format!("{p:?}"), &list(own), &list(plain));
            }
        }
    }
}

#[test]
fn a_ledger_changes_neither_loss_nor_gradient() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let (logits, classes) = sample();
    let device = Device::flex().autodiff();
    for p in all_kinds() {
        let without = run(&logits, &classes, p, &device, 1.0);
        let (with, _) = run_with(&logits, &classes, p, &ClassTerms::default(), layout_of(8), &device);
        assert!((with.loss - without.loss).abs() <= 2e-7 * without.loss.abs(), "{} {}", with.loss, without.loss);
        for (a, b) in with.grad.iter().zip(&without.grad) {
            assert!((a - b).abs() <= 2e-7 * b.abs(), "{p:?}: {a:e} {b:e}");
        }
    }
}

#[test]
fn the_ledger_is_the_same_on_any_threads() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let logits = values(5, 80 * 3000);
    let classes: Vec<i32> = (0..3000).map(|i| if i % 50 == 0 { i % 80 } else { -1 - i32::from(i % 7 == 0) }).collect();
    let terms = ClassTerms { alpha: vec![0.3; 80], ..ClassTerms::default() };
    assert_same_on_any_threads(|| {
        let (run, ledger) =
            run_with(&logits, &classes, focal(0.25, 2.0), &terms, layout_of(1500), &Device::flex().autodiff());
        vec![vec![run.loss], run.sums, run.grad, ledger]
    });
}

#[test]
fn negatives_alone_leave_positives_out() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let (logits, classes) = sample();
    let p = kind(ClassLossKind::FocalNegatives);
    for plain in [false, true] {
        set_plain(plain);
        let got = run(&logits, &classes, p, &Device::flex().autodiff(), 1.0);
        set_plain(false);
        let all = run(&logits, &classes, focal(-1.0, 2.0), &Device::flex().autodiff(), 1.0);
        assert_eq!(got.sums[0], 0.0);
        assert!((got.sums[1] - all.sums[1]).abs() <= 1e-6 * all.sums[1]);
        for (i, (a, b)) in got.grad.iter().zip(&all.grad).enumerate() {
            let expected = if classes[i / 7] == (i % 7) as i32 { 0.0 } else { *b };
            assert!((a - expected).abs() <= 1e-6 * expected.abs(), "{i}: {a} {expected}");
        }
    }
}

/// What the ledger costs: `cargo test --release ... what_the_ledger_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a timing"]
fn what_the_ledger_costs() {
    let _guard = SWITCH.lock().unwrap_or_else(|e| e.into_inner());
    let device = Device::flex().autodiff();
    // Two pictures of 512 pixels, 80 classes: what a ResNet-50 is timed on.
    let layout = LedgerLayout { level_anchors: [36864, 9216, 2304, 576, 144] };
    let rows = 2 * layout.anchors();
    let classes: Vec<i32> =
        (0..rows).map(|i| if i % 700 == 0 { i as i32 % 80 } else { -1 - i32::from(i % 97 == 0) }).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(classes, [rows]), &device);
    // At the prior all losses fall into few bins; spread logits fall into many.
    for (name, spread) in [("at the prior", 0.1f32), ("spread", 3.0)] {
        let logits: Vec<f32> = values(9, rows * 80).into_iter().map(|v| v * spread - 4.6).collect();
        let x = Tensor::<2>::from_data(TensorData::new(logits, [rows, 80]), &device).require_grad();
        let time = |ledger: Option<LedgerLayout>| {
            let started = std::time::Instant::now();
            let out = class_loss_with(x.clone(), ids.clone(), focal(0.25, 2.0), &ClassTerms::default(), ledger);
            let _ = x.grad(&out.loss.backward());
            started.elapsed().as_secs_f64() * 1e3
        };
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..21 {
            without.push(time(None));
            with.push(time(Some(layout)));
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        println!("{name}: {:.1} ms without, {:.1} ms with the ledger", median(&mut without), median(&mut with));
    }
}
