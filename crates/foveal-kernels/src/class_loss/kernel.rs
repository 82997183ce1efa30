//! The pass over all logits on the CPU backends.
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::element::loss;
use super::{IGNORE, Weighting};
use crate::cpu::CpuTensor;
use crate::parallel::{GRAIN, map_matrix};

/// What one pass gives.
pub(super) struct Pass<T> {
    pub(super) loss: T,
    pub(super) sums: T,
    /// By the logits, if it was asked for.
    pub(super) grad: Option<T>,
}

/// Sums of positive and negative loss.
type Sums = [f64; 2];

/// `logits [anchors, classes]` of `f32`, `classes [anchors]` of `i32`. Blocks of rows run in parallel; their sums are
/// added in order.
///
/// # Panics
/// If a class is not below the number of classes.
pub(super) fn pass<T: CpuTensor, I: CpuTensor>(logits: T, classes: I, w: Weighting, want_grad: bool) -> Pass<T> {
    let (logits, classes) = (logits.contiguous(), classes.contiguous());
    let [anchors, width] = logits.sizes();
    let (x, classes) = (logits.f32s(), classes.i32s());
    let rows = (GRAIN / width.max(1)).max(1);
    let mut grad: Vec<f32> = Vec::new();
    let blocks: Vec<Sums> = if anchors * width == 0 {
        Vec::new()
    } else if want_grad {
        grad.reserve_exact(anchors * width);
        grad.spare_capacity_mut()[..anchors * width]
            .par_chunks_mut(rows * width)
            .zip(x.par_chunks(rows * width).zip(classes.par_chunks(rows)))
            .map(|(grad, (x, classes))| block(x, classes, width, w, Some(grad)))
            .collect()
    } else {
        let blocks = x.par_chunks(rows * width).zip(classes.par_chunks(rows));
        blocks.map(|(x, classes)| block(x, classes, width, w, None)).collect()
    };
    if want_grad {
        // SAFETY: reserved above, and each block initialised the gradient of all its rows.
        unsafe { grad.set_len(anchors * width) };
    }
    let [positive, negative] = blocks.into_iter().fold([0.0; 2], |[p, n], [bp, bn]| [p + bp, n + bn]);
    Pass {
        loss: T::from_f32s(vec![(positive + negative) as f32], [1]),
        sums: T::from_f32s(vec![positive as f32, negative as f32], [2]),
        grad: want_grad.then(|| T::from_f32s(grad, [anchors, width])),
    }
}

/// Some rows; initialises all of their gradient.
fn block(x: &[f32], classes: &[i32], width: usize, w: Weighting, mut grad: Option<&mut [MaybeUninit<f32>]>) -> Sums {
    let [mut positive, mut negative] = [0f64; 2];
    let mut first = 0;
    while first < classes.len() {
        let class = classes[first];
        // neighbours of the same kind without a positive are one run
        let same = if class < 0 { classes[first..].iter().take_while(|c| **c == class).count() } else { 1 };
        let (from, to) = (first * width, (first + same) * width);
        let mut grad = grad.as_mut().map(|g| &mut g[from..to]);
        let x = &x[from..to];
        if class <= IGNORE {
            if let Some(grad) = grad {
                grad.fill(MaybeUninit::new(0.0));
            }
        } else if class < 0 {
            negative += loss(x, false, w, grad);
        } else {
            let class = class as usize;
            assert!(class < width, "class loss: class {class} of {width}");
            let mut part = |range: std::ops::Range<usize>, is: bool| {
                loss(&x[range.clone()], is, w, grad.as_mut().map(|g| &mut g[range]))
            };
            negative += part(0..class, false) + part(class + 1..width, false);
            positive += part(class..class + 1, true);
        }
        first += same;
    }
    [positive, negative]
}

/// The saved gradient times the loss's own.
pub(super) fn scaled<T: CpuTensor>(grad: T, by: T) -> T {
    let by = by.contiguous().f32s()[0];
    if by == 1.0 {
        return grad;
    }
    map_matrix(grad, |v| *v *= by)
}
