//! The breakdown of the class loss against its definition in `f64`.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::{Device, Int, Tensor, TensorData};
use common::classes::*;
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

/// A breakdown by its definition, in `f64`: `levels` anchors of each level, one image after the other.
fn breakdown_definition(
    logits: &[f32],
    classes: &[i32],
    p: ClassLossParams,
    terms: &ClassTerms,
    layout: BreakdownLayout,
) -> BreakdownSums {
    let width = logits.len() / classes.len();
    let mut sums = BreakdownSums::zero(width);
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
            let bin = (0..BREAKDOWN_BINS)
                .rev()
                .find(|b| loss >= f64::from(breakdown_bin_start(*b)))
                .expect("bin 0 starts at 0");
            sums.bins[bin].count += 1.0;
            sums.bins[bin].loss += loss;
        }
    }
    sums
}

/// Loss, sums, gradient and breakdown by [`class_loss_with`].
fn run_with(
    logits: &[f32],
    classes: &[i32],
    p: ClassLossParams,
    terms: &ClassTerms,
    layout: BreakdownLayout,
    device: &Device,
) -> (Run, Vec<f32>) {
    let shape = [classes.len(), logits.len() / classes.len()];
    let x = Tensor::<2>::from_data(TensorData::new(logits.to_vec(), shape), device).require_grad();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(classes.to_vec(), [classes.len()]), device);
    let out = class_loss_with(x.clone(), ids, p, terms, Some(layout));
    let grads = out.loss.clone().sum().backward();
    let run =
        Run { loss: to_vec(out.loss)[0], sums: to_vec(out.sums), grad: to_vec(x.grad(&grads).expect("a gradient")) };
    (run, to_vec(out.breakdown.expect("it was asked for")))
}

/// Compares with a tolerance of 1e-5. Losses close to the edge of a bin may fall on either side.
fn check_breakdown(what: &str, found: &[f32], expected: &BreakdownSums) {
    let width = expected.positive_by_class.len();
    let found = BreakdownSums::read(found, width);
    let near = |name: &str, a: f64, b: f64| {
        assert!((a - b).abs() <= 1e-5 * b.abs() + 1e-9, "{what}: {name} is {a:e}, not {b:e}");
    };
    for (a, b) in found.positive.iter().chain(&found.negative).zip(expected.positive.iter().chain(&expected.negative)) {
        near("loss", a.loss, b.loss);
        near("gradient", a.gradient, b.gradient);
        near("score", a.score, b.score);
    }
    let by_class = |s: &BreakdownSums| [s.positive_by_class.clone(), s.negative_by_class.clone()].concat();
    by_class(&found).iter().zip(by_class(expected)).for_each(|(a, b)| near("loss by class", *a, b));
    let total = |s: &BreakdownSums| s.bins.iter().fold([0.0; 2], |[c, l], b| [c + b.count, l + b.loss]);
    near("negatives", total(&found)[0], total(expected)[0]);
    near("their loss", total(&found)[1], total(expected)[1]);
    let differ: f64 = found.bins.iter().zip(&expected.bins).map(|(a, b)| (a.count - b.count).abs()).sum();
    assert!(differ <= 2.0 + 1e-4 * total(expected)[0], "{what}: {differ} negatives in other bins");
}

fn layout_of(anchors: usize) -> BreakdownLayout {
    // Some levels are empty; the last one has the remaining anchors.
    let parts = [anchors / 2, 0, anchors / 4, anchors / 8];
    let rest = anchors - parts.iter().sum::<usize>();
    BreakdownLayout { level_anchors: [parts[0], parts[1], parts[2], parts[3], rest] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_breakdown_equals_its_definition(
        width in 1usize..100,
        seed in 0u64..1000,
        images in 1usize..3,
        picks in prop::collection::vec(-2i32..100, 1..60),
        lists in any::<bool>(),
    ) {
        let _guard = fused_kernels();
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
            // Cross entropy ignores the lists.
            let terms = if p.kind == ClassLossKind::Focal && p.alpha > 0.0 { terms.clone() } else { ClassTerms::default() };
            let expected = breakdown_definition(&logits, &classes, p, &terms, layout);
            for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
                let (fused, breakdown) = run_with(&logits, &classes, p, &terms, layout, &device);
                check_breakdown(&format!("{p:?}"), &breakdown, &expected);
                set_reference(true);
                let (reference, reference_breakdown) = run_with(&logits, &classes, p, &terms, layout, &device);
                set_reference(false);
                check_breakdown(&format!("reference {p:?}"), &reference_breakdown, &expected);
                let list = |r: Run| vec![vec![r.loss], r.sums, r.grad];
                assert_close(&format!("{p:?}"), &list(fused), &list(reference));
            }
        }
    }
}

#[test]
fn a_breakdown_changes_neither_loss_nor_gradient() {
    let _guard = fused_kernels();
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
fn the_breakdown_is_the_same_on_any_threads() {
    let _guard = fused_kernels();
    let logits = values(5, 80 * 3000);
    let classes: Vec<i32> = (0..3000).map(|i| if i % 50 == 0 { i % 80 } else { -1 - i32::from(i % 7 == 0) }).collect();
    let terms = ClassTerms { alpha: vec![0.3; 80], ..ClassTerms::default() };
    assert_same_on_any_threads(|| {
        let (run, breakdown) =
            run_with(&logits, &classes, focal(0.25, 2.0), &terms, layout_of(1500), &Device::flex().autodiff());
        vec![vec![run.loss], run.sums, run.grad, breakdown]
    });
}
