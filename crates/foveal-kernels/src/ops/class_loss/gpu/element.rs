//! The loss of one pair on a GPU, by the formula of the CPU kernel ([`super::super::element`]).
//!
//! Exponential and logarithm are the same polynomials, because those of a GPU may have large relative errors close to
//! 0. The computation is in `f32` for every type of the logits.
use cubecl::prelude::*;

use crate::ops::class_loss::element::{Focus, LN2_HIGH, LN2_LOW, LOWEST};
use crate::ops::class_loss::{Columns, IGNORE, Plan};

/// Number of constants of each class in a table of constants: the weights of positives and of negatives, the focal
/// exponent and the factor of the anchors whose object has the class.
pub(super) const TABLE_COLUMNS: usize = 4;
/// The bits of the exponent of an `f32`. They are all set in NaN and in infinite numbers only.
const EXPONENT: u32 = 0x7f80_0000;
/// All bits of an `f32` except the sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// The properties of a class loss that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// The form of the focal factor.
    focus: Focus,
    /// Whether the weights and the exponent of each class come from the table.
    each: bool,
    /// Whether the factor of each anchor with an object comes from the table.
    rows: bool,
}

impl Form {
    pub(super) fn of(plan: &Plan) -> Self {
        let (focus, each) = match &plan.columns {
            Columns::Same(w) => (Focus::of([w.gamma]), false),
            Columns::Each(each) => (Focus::of(each.iter().map(|w| w.gamma)), true),
        };
        Self { focus, each, rows: plan.rows.is_some() }
    }

    /// Whether the kernels read the table of constants.
    pub(super) fn has_table(&self) -> bool {
        self.each || self.rows
    }
}

/// The table of constants of a plan, `[classes, TABLE_COLUMNS]`.
pub(super) fn table(plan: &Plan, classes: usize) -> Vec<f32> {
    let row = |class: usize| {
        let w = match &plan.columns {
            Columns::Same(w) => *w,
            Columns::Each(each) => each[class],
        };
        [w.positive, w.negative, w.gamma, plan.rows.as_ref().map_or(1.0, |rows| rows[class])]
    };
    (0..classes).flat_map(row).collect()
}

/// The constants of a class loss that all classes share; 0 if each class has its own.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Shares {
    positive: f32,
    negative: f32,
    gamma: f32,
}

impl Shares {
    /// The launch argument for a plan.
    pub(super) fn of(plan: &Plan) -> SharesLaunch {
        match &plan.columns {
            Columns::Same(w) => SharesLaunch::new(w.positive, w.negative, w.gamma),
            Columns::Each(_) => SharesLaunch::new(0.0, 0.0, 0.0),
        }
    }
}

/// What a pair of an anchor and a class contributes.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Pair {
    /// The weighted loss; NaN or infinite if the logit is.
    pub(super) loss: f32,
    /// The derivative of the weighted loss with respect to the logit.
    pub(super) gradient: f32,
    /// The sigmoid of the logit.
    pub(super) score: f32,
}

/// `exp(-a)` for `a >= 0`.
#[cube]
fn exp_neg(a: f32) -> f32 {
    let x = -select(a > LOWEST, LOWEST, a);
    let n = (x * std::f32::consts::LOG2_E + 0.5f32).floor();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = ((((1.987_569_1e-4f32 * r + 1.398_2e-3f32) * r + 8.333_452e-3f32) * r + 4.166_579_6e-2f32) * r
        + 0.166_666_65f32)
        * r
        + 0.5f32;
    let p = p * r * r + r + 1.0f32;
    let exponent = u32::cast_from(i32::cast_from(n) + 127i32);
    p * f32::reinterpret(exponent << 23u32)
}

/// `ln(1 + e)` for `0 <= e <= 1`.
#[cube]
fn ln_1p(e: f32) -> f32 {
    let s = e / (2.0f32 + e);
    let q = s * s;
    let series =
        0.142_857_15f32 + q * (0.111_111_11f32 + q * (0.090_909_09f32 + q * (0.076_923_08f32 + q * 0.066_666_67f32)));
    let t = s + s;
    t + t * (q * (0.333_333_34f32 + q * (0.2f32 + q * series)))
}

/// Whether the anchor of a class takes part in the loss.
#[cube]
pub(super) fn takes_part(class: i32) -> bool {
    class > IGNORE
}

/// Whether the pair of an anchor of `class` with the class `column` is a positive.
#[cube]
pub(super) fn is_positive(class: i32, column: usize) -> bool {
    class == i32::cast_from(column)
}

/// The loss of the pair of an anchor of `class`, which takes part in the loss, with the class `column` of `classes`.
#[cube]
pub(super) fn pair(
    x: f32,
    class: i32,
    column: usize,
    classes: usize,
    table: &[f32],
    shares: &Shares,
    #[comptime] form: Form,
) -> Pair {
    let positive = is_positive(class, column);
    let mut weight = select(positive, shares.positive, shares.negative);
    let mut gamma = shares.gamma;
    if comptime!(form.each) {
        let at = column * TABLE_COLUMNS;
        weight = select(positive, table[at], table[at + 1]);
        gamma = table[at + 2];
    }
    if comptime!(form.rows) {
        // A class of background or ignored anchors becomes a large number.
        let own = usize::cast_from(u32::cast_from(class));
        if own < classes {
            weight *= table[own * TABLE_COLUMNS + 3];
        }
    }
    let z = select(positive, x, -x);
    let e = exp_neg(z.abs());
    let l = ln_1p(e);
    let ce = l + select(z < 0.0f32, -z, 0.0f32);
    let near = 1.0f32 / (1.0f32 + e);
    let far = e / (1.0f32 + e);
    let truth = select(z >= 0.0f32, near, far);
    let other = select(z >= 0.0f32, far, near);
    let mut factor = weight;
    if comptime!(form.focus == Focus::Square) {
        factor *= other * other;
    } else if comptime!(form.focus == Focus::Power) {
        factor *= exp_neg(gamma * (l + select(z > 0.0f32, z, 0.0f32)));
    }
    let by_z = -factor * (gamma * truth * ce + other);
    // A logit that is not finite must show in the loss, whatever a driver makes of arithmetic with such numbers.
    let bits = u32::reinterpret(x);
    let finite = (bits & EXPONENT) != EXPONENT;
    Pair {
        loss: select(finite, factor * ce, f32::reinterpret(bits & MAGNITUDE)),
        gradient: select(positive, by_z, -by_z),
        score: select(positive, truth, other),
    }
}
