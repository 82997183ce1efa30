//! Runs of consecutive logits that are all positives or all negatives.
use std::mem::MaybeUninit;

use super::Weighting;
use super::breakdown::PairSums;
use super::element::{Focus, element};

/// Number of elements that are processed together.
const LANES: usize = 16;

/// Sums the weighted loss of `x`, all positives (`sign` is 1) or all negatives (`sign` is -1), and initialises all of
/// `grad`.
#[inline(always)]
fn run<const FOCUS: u8>(
    x: &[f32],
    sign: f32,
    weight: f32,
    gamma: f32,
    mut grad: Option<&mut [MaybeUninit<f32>]>,
) -> f64 {
    let slope = weight * sign;
    // The sums are in f64, because rounding errors of equal losses (all logits at the prior) would not cancel out.
    let mut lanes = [0f64; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    let done = x.len() - rest.len();
    for (i, x) in chunks.enumerate() {
        let mut g = [0f32; LANES];
        for j in 0..LANES {
            let e = element::<FOCUS>(sign * x[j], gamma);
            lanes[j] += f64::from(e.loss);
            g[j] = slope * e.by_z;
        }
        if let Some(grad) = &mut grad {
            grad[i * LANES..][..LANES].write_copy_of_slice(&g);
        }
    }
    for (j, x) in rest.iter().enumerate() {
        let e = element::<FOCUS>(sign * x, gamma);
        lanes[j] += f64::from(e.loss);
        if let Some(grad) = &mut grad {
            grad[done + j].write(slope * e.by_z);
        }
    }
    lanes.iter().sum::<f64>() * f64::from(weight)
}

#[inline(always)]
fn run_any(x: &[f32], positive: bool, w: Weighting, grad: Option<&mut [MaybeUninit<f32>]>) -> f64 {
    let (sign, weight) = w.side(positive);
    match Focus::of([w.gamma]) {
        Focus::None => run::<{ Focus::None as u8 }>(x, sign, weight, w.gamma, grad),
        Focus::Square => run::<{ Focus::Square as u8 }>(x, sign, weight, w.gamma, grad),
        Focus::Power => run::<{ Focus::Power as u8 }>(x, sign, weight, w.gamma, grad),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(x: &[f32], positive: bool, w: Weighting, grad: Option<&mut [MaybeUninit<f32>]>) -> f64 {
    run_any(x, positive, w, grad)
}

/// Sums the weighted loss of logits that are all positives or all negatives; initialises all of `grad` with the
/// gradient.
pub(super) fn loss(x: &[f32], positive: bool, w: Weighting, grad: Option<&mut [MaybeUninit<f32>]>) -> f64 {
    if let Some(grad) = &grad {
        assert_eq!(x.len(), grad.len());
    }
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::matmul::isa::isa() != crate::cpu::matmul::isa::Isa::Portable {
        // SAFETY: all vector instruction sets that may be in use include both features.
        return unsafe { run_avx2(x, positive, w, grad) };
    }
    run_any(x, positive, w, grad)
}

/// Weights and exponents of the pairs of a run.
#[derive(Clone, Copy)]
pub(super) enum Terms<'a> {
    /// One weight and one exponent for all pairs.
    Same { weight: f32, gamma: f32 },
    /// One weight and one exponent for each pair; all weights are multiplied by `factor`.
    Each { weight: &'a [f32], gamma: &'a [f32], factor: f32, focus: Focus },
}

/// Access to weights and exponents in a loop.
trait Column: Copy {
    fn weight(&self, i: usize) -> f32;
    fn gamma(&self, i: usize) -> f32;
}

#[derive(Clone, Copy)]
struct Same {
    weight: f32,
    gamma: f32,
}

impl Column for Same {
    #[inline(always)]
    fn weight(&self, _: usize) -> f32 {
        self.weight
    }
    #[inline(always)]
    fn gamma(&self, _: usize) -> f32 {
        self.gamma
    }
}

#[derive(Clone, Copy)]
struct Each<'a> {
    weight: &'a [f32],
    gamma: &'a [f32],
    factor: f32,
}

impl Column for Each<'_> {
    #[inline(always)]
    fn weight(&self, i: usize) -> f32 {
        self.factor * self.weight[i]
    }
    #[inline(always)]
    fn gamma(&self, i: usize) -> f32 {
        self.gamma[i]
    }
}

#[inline(always)]
fn measure<const FOCUS: u8, const POSITIVE: bool>(
    x: &[f32],
    terms: impl Column,
    mut grad: Option<&mut [MaybeUninit<f32>]>,
    losses: &mut [f32],
) -> PairSums {
    let sign = if POSITIVE { 1.0 } else { -1.0 };
    // The loss is summed in f64, as in `run`. The runs are short, so that f32 is enough for the other sums.
    let mut loss = [0f64; LANES];
    let (mut slope, mut score) = ([0f32; LANES], [0f32; LANES]);
    let whole = x.len() - x.len() % LANES;
    for start in (0..whole).step_by(LANES) {
        let (x, out) = (&x[start..start + LANES], &mut losses[start..start + LANES]);
        let mut g = [0f32; LANES];
        for j in 0..LANES {
            let e = element::<FOCUS>(sign * x[j], terms.gamma(start + j));
            let weight = terms.weight(start + j);
            out[j] = weight * e.loss;
            loss[j] += f64::from(out[j]);
            let by_z = weight * e.by_z;
            slope[j] -= by_z;
            score[j] += if POSITIVE { e.truth } else { e.other };
            g[j] = sign * by_z;
        }
        if let Some(grad) = &mut grad {
            grad[start..start + LANES].write_copy_of_slice(&g);
        }
    }
    for i in whole..x.len() {
        let e = element::<FOCUS>(sign * x[i], terms.gamma(i));
        let weight = terms.weight(i);
        losses[i] = weight * e.loss;
        loss[i - whole] += f64::from(losses[i]);
        let by_z = weight * e.by_z;
        slope[i - whole] -= by_z;
        score[i - whole] += if POSITIVE { e.truth } else { e.other };
        if let Some(grad) = &mut grad {
            grad[i].write(sign * by_z);
        }
    }
    let sum = |lanes: [f32; LANES]| lanes.into_iter().map(f64::from).sum::<f64>();
    PairSums { loss: loss.iter().sum(), gradient: sum(slope), score: sum(score) }
}

#[inline(always)]
fn measure_terms<const POSITIVE: bool>(
    x: &[f32],
    terms: Terms<'_>,
    grad: Option<&mut [MaybeUninit<f32>]>,
    losses: &mut [f32],
) -> PairSums {
    const NONE: u8 = Focus::None as u8;
    const SQUARE: u8 = Focus::Square as u8;
    const POWER: u8 = Focus::Power as u8;
    match terms {
        Terms::Same { weight, gamma } => {
            let same = Same { weight, gamma };
            match Focus::of([gamma]) {
                Focus::None => measure::<NONE, POSITIVE>(x, same, grad, losses),
                Focus::Square => measure::<SQUARE, POSITIVE>(x, same, grad, losses),
                Focus::Power => measure::<POWER, POSITIVE>(x, same, grad, losses),
            }
        }
        Terms::Each { weight, gamma, factor, focus } => {
            let each = Each { weight: &weight[..x.len()], gamma: &gamma[..x.len()], factor };
            match focus {
                Focus::None => measure::<NONE, POSITIVE>(x, each, grad, losses),
                Focus::Square => measure::<SQUARE, POSITIVE>(x, each, grad, losses),
                Focus::Power => measure::<POWER, POSITIVE>(x, each, grad, losses),
            }
        }
    }
}

#[inline(always)]
fn measure_any(
    x: &[f32],
    positive: bool,
    terms: Terms<'_>,
    grad: Option<&mut [MaybeUninit<f32>]>,
    losses: &mut [f32],
) -> PairSums {
    if positive {
        measure_terms::<true>(x, terms, grad, losses)
    } else {
        measure_terms::<false>(x, terms, grad, losses)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn measure_avx2(
    x: &[f32],
    positive: bool,
    terms: Terms<'_>,
    grad: Option<&mut [MaybeUninit<f32>]>,
    losses: &mut [f32],
) -> PairSums {
    measure_any(x, positive, terms, grad, losses)
}

/// Computes the sums of logits that are all positives or all negatives, initialises all of `grad` with the gradient and
/// writes each weighted loss to `losses`. For short runs only, since gradients and scores are summed in `f32`.
pub(super) fn measured(
    x: &[f32],
    positive: bool,
    terms: Terms<'_>,
    grad: Option<&mut [MaybeUninit<f32>]>,
    losses: &mut [f32],
) -> PairSums {
    assert_eq!(x.len(), losses.len());
    if let Some(grad) = &grad {
        assert_eq!(x.len(), grad.len());
    }
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::matmul::isa::isa() != crate::cpu::matmul::isa::Isa::Portable {
        // SAFETY: all vector instruction sets that may be in use include both features.
        return unsafe { measure_avx2(x, positive, terms, grad, losses) };
    }
    measure_any(x, positive, terms, grad, losses)
}
