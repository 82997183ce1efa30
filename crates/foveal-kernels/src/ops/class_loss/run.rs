//! Runs of consecutive logits that are all positives or all negatives.
use std::mem::MaybeUninit;

use super::Weighting;
use super::breakdown::PairSums;
use super::element::{Element, Focus, element, exponential};
use crate::cpu::compiled::{Work, compiled};

const NONE: u8 = Focus::None as u8;
const SQUARE: u8 = Focus::Square as u8;
const POWER: u8 = Focus::Power as u8;

/// Number of elements that are processed together. Their intermediate values stay in the first-level cache.
const BLOCK: usize = 256;
/// Number of partial sums.
const LANES: usize = 16;

/// Sum of a block of losses in `f64`, because rounding errors of equal losses (all logits at the prior) would not
/// cancel out. Only four values at a time are added in `f32`, in pairs, which is exact for equal values.
#[inline(always)]
fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (fours, rest) = values.as_chunks::<{ 4 * LANES }>();
    for four in fours {
        let mut sums = [0f32; LANES];
        for j in 0..LANES {
            sums[j] = (four[j] + four[LANES + j]) + (four[2 * LANES + j] + four[3 * LANES + j]);
        }
        for (lane, sum) in lanes.iter_mut().zip(sums) {
            *lane += f64::from(sum);
        }
    }
    for values in rest.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += f64::from(*value);
        }
    }
    lanes.iter().sum()
}

/// Calls `each(i, element)` for each of at most [`BLOCK`] logits, which are all positives (`sign` is 1) or all
/// negatives (`sign` is -1). The exponentials are computed in a loop of their own: its chain of dependent instructions
/// is then half as long, so that the processor overlaps more elements. `each` should only write `f32` values: with sums
/// in `f64` in the same loop, the compiler uses vectors of four elements and keeps the sums in memory.
#[inline(always)]
fn elements<const FUSED: bool, const FOCUS: u8>(
    x: &[f32],
    sign: f32,
    gamma: impl Fn(usize) -> f32,
    mut each: impl FnMut(usize, Element),
) {
    debug_assert!(x.len() <= BLOCK, "a block of {} logits", x.len());
    let mut exponentials = [0f32; BLOCK];
    for (e, x) in exponentials.iter_mut().zip(x) {
        *e = exponential::<FUSED>(*x);
    }
    for (i, (x, e)) in x.iter().zip(&exponentials).enumerate() {
        each(i, element::<FUSED, FOCUS>(sign * x, *e, gamma(i)));
    }
}

/// The arguments of [`loss`].
struct Loss<'a> {
    x: &'a [f32],
    positive: bool,
    weighting: Weighting,
    grad: Option<&'a mut [MaybeUninit<f32>]>,
}

impl Loss<'_> {
    #[inline(always)]
    fn blocks<const FUSED: bool, const FOCUS: u8>(self) -> f64 {
        let Self { x, positive, weighting, mut grad } = self;
        let (sign, weight) = weighting.side(positive);
        let (gamma, by_x) = (weighting.gamma, -sign * weight);
        let (mut losses, mut unused) = ([0f32; BLOCK], [MaybeUninit::uninit(); BLOCK]);
        let mut total = 0.0;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let losses = &mut losses[..x.len()];
            let grad = match &mut grad {
                Some(grad) => &mut grad[block * BLOCK..][..x.len()],
                None => &mut unused[..x.len()],
            };
            elements::<FUSED, FOCUS>(
                x,
                sign,
                |_| gamma,
                |i, e| {
                    losses[i] = e.loss;
                    grad[i].write(by_x * e.slope);
                },
            );
            total += sum(losses);
        }
        total * f64::from(weight)
    }
}

impl Work for Loss<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        match Focus::of([self.weighting.gamma]) {
            Focus::None => self.blocks::<FUSED, NONE>(),
            Focus::Square => self.blocks::<FUSED, SQUARE>(),
            Focus::Power => self.blocks::<FUSED, POWER>(),
        }
    }
}

/// Sums the weighted loss of logits that are all positives or all negatives; initialises all of `grad` with the
/// gradient.
pub(super) fn loss(x: &[f32], positive: bool, w: Weighting, grad: Option<&mut [MaybeUninit<f32>]>) -> f64 {
    if let Some(grad) = &grad {
        assert_eq!(x.len(), grad.len());
    }
    compiled(Loss { x, positive, weighting: w, grad })
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
    /// The weights and exponents of the block of `len` pairs that begins with pair `from`.
    fn block(self, from: usize, len: usize) -> Self;
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
    #[inline(always)]
    fn block(self, _: usize, _: usize) -> Self {
        self
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
    #[inline(always)]
    fn block(self, from: usize, len: usize) -> Self {
        Self { weight: &self.weight[from..][..len], gamma: &self.gamma[from..][..len], ..self }
    }
}

/// The arguments of [`measured`].
struct Measured<'a> {
    x: &'a [f32],
    positive: bool,
    terms: Terms<'a>,
    grad: Option<&'a mut [MaybeUninit<f32>]>,
    losses: &'a mut [f32],
}

impl Measured<'_> {
    #[inline(always)]
    fn blocks<const FUSED: bool, const FOCUS: u8>(self, terms: impl Column) -> PairSums {
        let Self { x, positive, mut grad, losses, .. } = self;
        let sign = if positive { 1.0 } else { -1.0 };
        let (mut slopes, mut scores) = ([0f32; BLOCK], [0f32; BLOCK]);
        let mut sums = PairSums::default();
        for (block, (x, losses)) in x.chunks(BLOCK).zip(losses.chunks_mut(BLOCK)).enumerate() {
            let (from, len) = (block * BLOCK, x.len());
            let (slopes, scores) = (&mut slopes[..len], &mut scores[..len]);
            let terms = terms.block(from, len);
            elements::<FUSED, FOCUS>(
                x,
                sign,
                |i| terms.gamma(i),
                |i, e| {
                    let weight = terms.weight(i);
                    losses[i] = weight * e.loss;
                    slopes[i] = weight * e.slope;
                    scores[i] = if positive { e.truth } else { e.other };
                },
            );
            if let Some(grad) = &mut grad {
                for (grad, slope) in grad[from..][..len].iter_mut().zip(&*slopes) {
                    grad.write(-sign * slope);
                }
            }
            sums.loss += sum(losses);
            sums.gradient += sum(slopes);
            sums.score += sum(scores);
        }
        sums
    }

    #[inline(always)]
    fn with<const FUSED: bool>(self, focus: Focus, terms: impl Column) -> PairSums {
        match focus {
            Focus::None => self.blocks::<FUSED, NONE>(terms),
            Focus::Square => self.blocks::<FUSED, SQUARE>(terms),
            Focus::Power => self.blocks::<FUSED, POWER>(terms),
        }
    }
}

impl Work for Measured<'_> {
    type Output = PairSums;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> PairSums {
        let len = self.x.len();
        match self.terms {
            Terms::Same { weight, gamma } => self.with::<FUSED>(Focus::of([gamma]), Same { weight, gamma }),
            Terms::Each { weight, gamma, factor, focus } => {
                self.with::<FUSED>(focus, Each { weight: &weight[..len], gamma: &gamma[..len], factor })
            }
        }
    }
}

/// Computes the sums of logits that are all positives or all negatives, initialises all of `grad` with the gradient and
/// writes each weighted loss to `losses`.
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
    compiled(Measured { x, positive, terms, grad, losses })
}

#[cfg(test)]
mod tests;
