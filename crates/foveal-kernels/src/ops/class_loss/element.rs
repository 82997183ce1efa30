//! The loss of one logit and its derivative, without branches so that loops over logits vectorise.
//!
//! Let `z` be the logit of the truth: the logit itself for a positive, minus the logit for a negative. With
//! `l = ln(1 + exp(-|z|))`, `CE = l + max(-z, 0)` and `-ln(1 - p_t) = l + max(z, 0)`. No power or logarithm of a
//! probability is computed, so that nothing overflows or cancels.

/// Limit of the exponent's magnitude: `exp(-87)` is just above the smallest normal number.
pub(super) const LOWEST: f32 = 87.0;
/// 1.5 * 2^23. Adding it to a small number rounds that number to an integer.
const ROUND: f32 = 12_582_912.0;
/// The upper part of ln 2, which has few significant bits (Cephes, expf.c).
pub(super) const LN2_HIGH: f32 = 0.693_359_4;
/// The lower part of ln 2: `LN2_HIGH + LN2_LOW` is ln 2 (Cephes, expf.c).
pub(super) const LN2_LOW: f32 = -2.121_944_4e-4;

/// `a * b + c`, rounded once if `FUSED` is set. Without an instruction for it, `f32::mul_add` calls a slow function.
#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with the given coefficients, the highest power's first.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut value = coefficients[0];
    for coefficient in &coefficients[1..] {
        value = mul_add::<FUSED>(value, x, *coefficient);
    }
    value
}

/// `exp(-a)` for `a >= 0` with a relative error of about 1e-7 (polynomial of Cephes' expf); never below 1.2e-38.
#[inline(always)]
fn exp_neg<const FUSED: bool>(a: f32) -> f32 {
    // `max` would turn NaN into a number.
    let x = if -a < -LOWEST { -LOWEST } else { -a };
    let rounded = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FUSED>(n, -LN2_LOW, mul_add::<FUSED>(n, -LN2_HIGH, x));
    let p = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let p = mul_add::<FUSED>(polynomial::<FUSED, _>(r, p) * r, r, r) + 1.0;
    let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    p * f32::from_bits((exponent << 23) as u32)
}

/// `ln(1 + e)` for `0 <= e <= 1` by the series of `2 atanh(e / (2 + e))`, whose relative error is small also for tiny
/// `e`.
#[inline(always)]
fn ln_1p<const FUSED: bool>(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let q = s * s;
    let series = [1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0];
    // The largest term is added last, so that only its rounding error matters.
    let t = s + s;
    mul_add::<FUSED>(t, q * polynomial::<FUSED, _>(q, series), t)
}

/// The form of the focal factor `(1 - p_t)^gamma`, which is chosen before the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Focus {
    /// Gamma is 0: there is no factor.
    None,
    /// Gamma is 2: the factor is a square.
    Square,
    /// Gamma is any other number: the factor is a power.
    Power,
}

impl Focus {
    /// The cheapest form that is correct for all given exponents.
    pub(super) fn of(gammas: impl IntoIterator<Item = f32> + Clone) -> Self {
        let all = |value: f32| gammas.clone().into_iter().all(|gamma| gamma == value);
        if all(0.0) {
            Self::None
        } else if all(2.0) {
            Self::Square
        } else {
            Self::Power
        }
    }
}

/// Unweighted loss, slope and probabilities of one logit.
#[derive(Clone, Copy)]
pub(super) struct Element {
    /// The loss, without weight.
    pub(super) loss: f32,
    /// Minus the derivative of the loss with respect to `z`, at least 0.
    pub(super) slope: f32,
    /// The probability that the network assigns to the truth, `p_t`.
    pub(super) truth: f32,
    /// The probability that the network assigns to the opposite, `1 - p_t`.
    pub(super) other: f32,
}

/// `exp(-|z|)` for a logit `z` of any sign, which [`element`] needs.
#[inline(always)]
pub(super) fn exponential<const FUSED: bool>(z: f32) -> f32 {
    exp_neg::<FUSED>(z.abs())
}

/// Computes the loss for a logit `z` of the truth and `e`, its [`exponential`]. `FUSED` selects fused multiply-adds,
/// which the processor must have.
#[inline(always)]
pub(super) fn element<const FUSED: bool, const FOCUS: u8>(z: f32, e: f32, gamma: f32) -> Element {
    let l = ln_1p::<FUSED>(e);
    let ce = l + if z < 0.0 { -z } else { 0.0 };
    let near = 1.0 / (1.0 + e);
    let far = e * near;
    let (truth, other) = if z >= 0.0 { (near, far) } else { (far, near) };
    let factor = if FOCUS == Focus::None as u8 {
        1.0
    } else if FOCUS == Focus::Square as u8 {
        other * other
    } else {
        exp_neg::<FUSED>(gamma * (l + if z > 0.0 { z } else { 0.0 }))
    };
    Element { loss: factor * ce, slope: factor * mul_add::<FUSED>(gamma * truth, ce, other), truth, other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const FUSED: bool>() {
        let (exp_neg, ln_1p) = (exp_neg::<FUSED>, ln_1p::<FUSED>);
        for i in 0..200_000 {
            let a = i as f32 * 4.3e-4;
            let (got, exact) = (f64::from(exp_neg(a)), (-f64::from(a)).exp());
            assert!((got - exact).abs() <= 1.5e-7 * exact, "exp(-{a}): {got:e}, not {exact:e}");
            let e = exp_neg(a);
            let (got, exact) = (f64::from(ln_1p(e)), f64::from(e).ln_1p());
            assert!((got - exact).abs() <= 2e-7 * exact, "ln(1 + {e}): {got:e}, not {exact:e}");
        }
        assert!(exp_neg(f32::NAN).is_nan());
        assert_eq!(exp_neg(0.0), 1.0);
    }

    #[test]
    fn exp_and_logarithm_are_near_their_values() {
        check::<false>();
        check::<true>();
    }
}
