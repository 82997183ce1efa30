//! The class loss on a GPU: one pass over the logits for the sums, one for the gradient.
use cubecl::prelude::*;

use super::element::{Form, Shares, is_positive, pair, takes_part};
use super::units::{UNITS, sum_of_units};

/// Sums the losses of the positives and of the negatives of one part of the pairs per workgroup.
///
/// `partials` is `[2, parts]`: first the positives' sums, then the negatives'. A part is `rounds * UNITS` pairs.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn partial_sums<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    partials: &mut [f32],
    shares: &Shares,
    pairs: usize,
    parts: usize,
    rounds: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: ElemType,
) {
    let part = CUBE_POS;
    let classes = logits.shape(1);
    let mut positives = 0.0f32;
    let mut negatives = 0.0f32;
    for round in 0..rounds {
        let at = (part * rounds + round) * UNITS + UNIT_POS as usize;
        if at < pairs {
            let row = at / classes;
            let column = at - row * classes;
            let id = ids[row * ids.stride(0)];
            if takes_part(id) {
                let x = f32::cast_from(logits[row * logits.stride(0) + column * logits.stride(1)]);
                let found = pair(x, id, column, classes, table, shares, form);
                let positive = is_positive(id, column);
                positives += select(positive, found.loss, 0.0f32);
                negatives += select(positive, 0.0f32, found.loss);
            }
        }
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let positives = sum_of_units::<f32>(positives, &mut shared);
    let negatives = sum_of_units::<f32>(negatives, &mut shared);
    if UNIT_POS == 0 && part < parts {
        partials[part] = positives;
        partials[parts + part] = negatives;
    }
}

/// Adds up `partials`, `[2, parts]`, in one workgroup. Writes their total to `loss` and both sums to the first two
/// values of `sums`.
#[cube(launch_unchecked)]
pub(super) fn total(partials: &[f32], loss: &mut [f32], sums: &mut [f32], parts: usize) {
    let mut positives = 0.0f32;
    let mut negatives = 0.0f32;
    let mut part = UNIT_POS as usize;
    while part < parts {
        positives += partials[part];
        negatives += partials[parts + part];
        part += UNITS;
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let positives = sum_of_units::<f32>(positives, &mut shared);
    let negatives = sum_of_units::<f32>(negatives, &mut shared);
    if UNIT_POS == 0 {
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
