//! Compares the loops with the definition in `f64`, on all instruction sets of the processor.
use super::*;
use crate::cpu::matmul::isa;

/// Lengths around the sizes of vectors, of sums and of blocks.
const LENGTHS: [usize; 10] = [0, 1, 7, 16, 63, 64, 80, 255, 256, 1000];

/// The power of a small probability multiplies the rounding errors of its logarithm.
fn assert_near(what: &str, got: f64, exact: f64) {
    assert!((got - exact).abs() <= 5e-6 * exact.abs() + 1e-30, "{what}: {got:e}, not {exact:e}");
}

/// Unweighted loss, derivative by the logit, and score (arXiv 1708.02002, eq. 5 and appendix B).
fn exact(x: f32, sign: f32, gamma: f32) -> [f64; 3] {
    let (z, gamma) = (f64::from(sign * x), f64::from(gamma));
    let (truth, other) = (1.0 / (1.0 + (-z).exp()), 1.0 / (1.0 + z.exp()));
    let ce = (-z.abs()).exp().ln_1p() + (-z).max(0.0);
    let factor = other.powf(gamma);
    let slope = -factor * (gamma * truth * ce + other);
    [factor * ce, f64::from(sign) * slope, if sign > 0.0 { truth } else { other }]
}

fn logits(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37) % 101) as f32 * 0.37 - 18.0).collect()
}

/// Calls `check` for each instruction set, length, kind of pairs and exponent.
fn each_case(check: impl Fn(&str, &[f32], bool, f32)) {
    for isa in isa::all() {
        let _isa = isa::hold(isa);
        for len in LENGTHS {
            for (positive, gamma) in [(false, 0.0), (false, 2.0), (false, 1.5), (true, 0.0), (true, 2.0), (true, 1.5)] {
                let what = format!("{isa:?}, {len} logits, positive {positive}, gamma {gamma}");
                check(&what, &logits(len), positive, gamma);
            }
        }
    }
}

/// A gradient in which every value that is not written shows.
fn unwritten(len: usize) -> Vec<MaybeUninit<f32>> {
    vec![MaybeUninit::new(f32::NAN); len]
}

fn assert_gradient(what: &str, grad: &[MaybeUninit<f32>], exact: impl Fn(usize) -> f64) {
    for (i, got) in grad.iter().enumerate() {
        // SAFETY: `unwritten` initialised all values.
        assert_near(&format!("{what}, gradient {i}"), f64::from(unsafe { got.assume_init() }), exact(i));
    }
}

#[test]
fn the_loss_equals_its_definition_on_all_instruction_sets() {
    each_case(|what, x, positive, gamma| {
        let w = Weighting { positive: 0.25, negative: 0.75, gamma };
        let (sign, weight) = w.side(positive);
        let mut grad = unwritten(x.len());
        let got = loss(x, positive, w, Some(&mut grad));
        let total: f64 = x.iter().map(|x| exact(*x, sign, gamma)[0]).sum();
        assert_near(what, got, f64::from(weight) * total);
        assert_gradient(what, &grad, |i| f64::from(weight) * exact(x[i], sign, gamma)[1]);
        assert_eq!(got, loss(x, positive, w, None), "{what}: the gradient changes the loss");
    });
}

#[test]
fn the_sums_equal_their_definition_on_all_instruction_sets() {
    each_case(|what, x, positive, gamma| {
        let sign = if positive { 1.0 } else { -1.0 };
        let weights: Vec<f32> = (0..x.len()).map(|i| 0.5 + (i % 5) as f32).collect();
        let gammas: Vec<f32> =
            (0..x.len()).map(|i| if gamma == 1.5 { gamma + (i % 3) as f32 } else { gamma }).collect();
        let each = Terms::Each { weight: &weights, gamma: &gammas, factor: 0.7, focus: Focus::of([gamma]) };
        let (one, same) = ([gamma], Terms::Same { weight: 0.7, gamma });
        for (terms, weights, gammas) in [(each, &weights[..], &gammas[..]), (same, &[1.0], &one)] {
            let (mut grad, mut losses) = (unwritten(x.len()), vec![f32::NAN; x.len()]);
            let got = measured(x, positive, terms, Some(&mut grad), &mut losses);
            let all: Vec<[f64; 3]> = (0..x.len())
                .map(|i| {
                    let weight = 0.7 * f64::from(weights[i % weights.len()]);
                    let [loss, by_x, score] = exact(x[i], sign, gammas[i % gammas.len()]);
                    [weight * loss, weight * by_x, score]
                })
                .collect();
            let sum = |value: fn(&[f64; 3]) -> f64| all.iter().map(value).sum::<f64>();
            assert_near(what, got.loss, sum(|v| v[0]));
            assert_near(what, got.gradient, sum(|v| v[1].abs()));
            assert_near(what, got.score, sum(|v| v[2]));
            assert_gradient(what, &grad, |i| all[i][1]);
            for (got, exact) in losses.iter().zip(&all) {
                assert_near(what, f64::from(*got), exact[0]);
            }
        }
    });
}

#[test]
fn rounding_errors_of_equal_losses_do_not_add_up() {
    for isa in isa::all() {
        let _isa = isa::hold(isa);
        let w = Weighting { positive: 1.0, negative: 1.0, gamma: 2.0 };
        let one = loss(&[-4.6], false, w, None);
        let many = loss(&vec![-4.6; 1_000_003], false, w, None);
        assert!((many / (1_000_003.0 * one) - 1.0).abs() < 1e-12, "{isa:?}: {many} of {one}");
    }
}

#[test]
fn a_logit_that_is_not_a_number_shows_at_any_place() {
    for isa in isa::all() {
        let _isa = isa::hold(isa);
        for place in [0, 5, 16, 40, 79] {
            let mut x = logits(80);
            x[place] = f32::NAN;
            let w = Weighting { positive: 0.25, negative: 0.75, gamma: 2.0 };
            assert!(loss(&x, false, w, None).is_nan(), "{isa:?}, place {place}");
        }
    }
}
