//! The class loss on a GPU: one pass over the logits for the sums, one for the gradient.
use cubecl::prelude::*;

use super::element::{Form, Shares, is_positive, pair, takes_part};
use super::fold::INNER;

/// Sums the losses of the positives and of the negatives of one part of the pairs in each unit.
///
/// `partials` is `[2, units]`: first the positives' sums, then the negatives'. A part is `rounds * INNER` pairs, each
/// `units` after the one before, so that units side by side read logits side by side.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn partial_sums<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    partials: &mut [f32],
    shares: &Shares,
    pairs: usize,
    units: usize,
    rounds: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < units {
        let classes = logits.shape(1);
        let mut positives = 0.0f32;
        let mut negatives = 0.0f32;
        for round in 0..rounds {
            let mut some_positives = 0.0f32;
            let mut some_negatives = 0.0f32;
            for i in 0..INNER {
                let at = (round * INNER + i) * units + unit;
                if at < pairs {
                    let row = at / classes;
                    let column = at - row * classes;
                    let id = ids[row * ids.stride(0)];
                    if takes_part(id) {
                        let x = f32::cast_from(logits[row * logits.stride(0) + column * logits.stride(1)]);
                        let found = pair(x, id, column, classes, table, shares, form);
                        let positive = is_positive(id, column);
                        some_positives += select(positive, found.loss, 0.0f32);
                        some_negatives += select(positive, 0.0f32, found.loss);
                    }
                }
            }
            positives += some_positives;
            negatives += some_negatives;
        }
        partials[unit] = positives;
        partials[units + unit] = negatives;
    }
}

/// Adds up `partials`, `[2, parts]`, in one unit. Writes their total to `loss` and both sums to the first two values of
/// `sums`.
#[cube(launch_unchecked)]
pub(super) fn total(partials: &[f32], loss: &mut [f32], sums: &mut [f32], parts: usize) {
    if ABSOLUTE_POS == 0 {
        let mut positives = 0.0f32;
        let mut negatives = 0.0f32;
        for part in 0..parts {
            positives += partials[part];
            negatives += partials[parts + part];
        }
        sums[0] = positives;
        sums[1] = negatives;
        loss[0] = positives + negatives;
    }
}

/// Writes the gradient of the loss with respect to each logit times `by`, `[1]`, to `gradient`, `[pairs]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn gradients<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    by: &[f32],
    gradient: &mut [E],
    shares: &Shares,
    pairs: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < pairs {
        let classes = logits.shape(1);
        let row = at / classes;
        let column = at - row * classes;
        let id = ids[row * ids.stride(0)];
        let mut slope = 0.0f32;
        if takes_part(id) {
            let x = f32::cast_from(logits[row * logits.stride(0) + column * logits.stride(1)]);
            let found = pair(x, id, column, classes, table, shares, form);
            slope = found.gradient * by[0];
        }
        gradient[at] = E::cast_from(slope);
    }
}
