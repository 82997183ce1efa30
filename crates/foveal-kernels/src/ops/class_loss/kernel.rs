//! The fused class loss on the CPU backends: one pass over all logits.
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::element::Focus;
use super::run::{Terms, loss, measured};
use super::tally::Tally;
use super::{Columns, IGNORE, Plan, Weighting};
use crate::cpu::CpuTensor;
use crate::cpu::parallel::{GRAIN, map_planes};

/// The result of one pass over the logits of several images.
pub(super) struct Pass<T> {
    /// The sum of the loss over all logits of each image, `[images]`.
    pub(super) loss: T,
    /// For each image, the loss of positives and of negatives, followed by the flat breakdown if one is wanted:
    /// `[images * (2 + values)]`.
    pub(super) sums: T,
    /// The gradient with respect to the logits, if requested.
    pub(super) grad: Option<T>,
}

/// Computes the loss and the sums of each image and, if `want_grad` is set, the gradient of all logits, in their memory
/// if no other tensor shares it. Blocks of rows run in parallel; their sums are added in order.
///
/// # Shapes
/// `logits [images * anchors, classes]` of `f32`, `classes [images * anchors]` of `i32`.
///
/// # Panics
/// If a class is not below the number of classes.
pub(super) fn pass<T: CpuTensor, I: CpuTensor>(
    logits: T,
    classes: I,
    images: usize,
    plan: &Plan,
    want_grad: bool,
) -> Pass<T> {
    let (mut logits, classes) = (logits.contiguous(), classes.contiguous());
    let [rows, width] = logits.sizes();
    let classes = classes.i32s();
    let anchors = rows / images;
    let pieces = Pieces::new(plan, width);
    let mut grad: Vec<f32> = Vec::new();
    let in_place = want_grad && logits.f32s_mut().is_some();
    if want_grad && !in_place {
        grad.reserve_exact(rows * width);
    }
    let (mut losses, mut sums) = (Vec::with_capacity(images), Vec::new());
    for image in 0..images {
        let own = image * anchors..(image + 1) * anchors;
        let (classes, pairs) = (&classes[own.clone()], own.start * width..own.end * width);
        let blocks = match logits.f32s_mut() {
            Some(x) if in_place => replaced(&pieces, &mut x[pairs], classes),
            _ => {
                let grad = want_grad.then(|| &mut grad.spare_capacity_mut()[pairs.clone()]);
                blocks(&pieces, &logits.f32s()[pairs], classes, grad)
            }
        };
        let mut breakdown = plan.breakdown.map(|_| Tally::new(width, pieces.len));
        let (mut positive, mut negative) = (0.0, 0.0);
        for block in &blocks {
            positive += block.positive;
            negative += block.negative;
            if let (Some(all), Some(some)) = (&mut breakdown, &block.tally) {
                all.add(some);
            }
        }
        losses.push((positive + negative) as f32);
        sums.extend([positive as f32, negative as f32]);
        sums.extend(breakdown.map(|tally| tally.sums().write()).unwrap_or_default());
    }
    let grad = want_grad.then(|| {
        if in_place {
            return logits;
        }
        // SAFETY: reserved above, and each block of each image initialised the gradient of all its rows.
        unsafe { grad.set_len(rows * width) };
        T::from_f32s(grad, [rows, width])
    });
    let length = sums.len();
    Pass { loss: T::from_f32s(losses, [images]), sums: T::from_f32s(sums, [length]), grad }
}

/// Number of rows of a block.
fn block_rows(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// The sums of the blocks of rows of an image. The gradient of all rows is written to `grad`, if it is given.
fn blocks(pieces: &Pieces<'_>, x: &[f32], classes: &[i32], grad: Option<&mut [MaybeUninit<f32>]>) -> Vec<Block> {
    let rows = block_rows(pieces.width);
    let pairs = rows * pieces.width;
    if x.is_empty() {
        return Vec::new();
    }
    let blocks = x.par_chunks(pairs).zip(classes.par_chunks(rows)).enumerate();
    match grad {
        Some(grad) => grad
            .par_chunks_mut(pairs)
            .zip(blocks)
            .map(|(grad, (i, (x, classes)))| block(pieces, i * rows, x, classes, Some(grad)))
            .collect(),
        None => blocks.map(|(i, (x, classes))| block(pieces, i * rows, x, classes, None)).collect(),
    }
}

/// The sums of the blocks of rows of an image, whose logits are replaced by their gradient.
fn replaced(pieces: &Pieces<'_>, x: &mut [f32], classes: &[i32]) -> Vec<Block> {
    let rows = block_rows(pieces.width);
    if x.is_empty() {
        return Vec::new();
    }
    let blocks = x.par_chunks_mut(rows * pieces.width).zip(classes.par_chunks(rows)).enumerate();
    blocks
        .map(|(i, (x, classes))| {
            let logits = x.to_vec();
            let (to, len) = (x.as_mut_ptr().cast::<MaybeUninit<f32>>(), x.len());
            // SAFETY: the elements are those of `x`, which is not used meanwhile, and a block writes initialised
            // values.
            let grad = unsafe { std::slice::from_raw_parts_mut(to, len) };
            block(pieces, i * rows, &logits, classes, Some(grad))
        })
        .collect()
}

/// Minimum number of pairs of a piece.
const WIDE: usize = 256;

/// The division of the rows into pieces, for the cases that the fast loop does not cover. Each piece consists of whole
/// rows, `len` pairs together, so that the class of a pair follows from its position in the piece.
struct Pieces<'a> {
    plan: &'a Plan,
    width: usize,
    len: usize,
    /// Weights of the negatives, repeated to the length of a piece; empty if all classes have the same constants.
    negative: Vec<f32>,
    /// Exponents, repeated to the length of a piece; empty if all classes have the same constants.
    gamma: Vec<f32>,
    focus: Focus,
}

impl<'a> Pieces<'a> {
    fn new(plan: &'a Plan, width: usize) -> Self {
        let len = width * WIDE.div_ceil(width.max(1)).max(1);
        let each: &[Weighting] = match &plan.columns {
            Columns::Same(_) => &[],
            Columns::Each(each) => {
                assert_eq!(each.len(), width, "class loss: one set of constants per class");
                each
            }
        };
        let repeat = |value: fn(&Weighting) -> f32| each.iter().map(value).cycle().take(len).collect::<Vec<f32>>();
        let (negative, gamma) =
            if each.is_empty() { Default::default() } else { (repeat(|w| w.negative), repeat(|w| w.gamma)) };
        if let Some(rows) = &plan.rows {
            assert_eq!(rows.len(), width, "class loss: one weight per class");
        }
        Self { plan, width, len, negative, gamma, focus: Focus::of(each.iter().map(|w| w.gamma)) }
    }

    /// The constants of consecutive pairs of one kind, from a column on.
    fn terms(&self, column: usize, positive: bool, factor: f32) -> Terms<'_> {
        match &self.plan.columns {
            Columns::Same(w) => Terms::Same { weight: factor * w.side(positive).1, gamma: w.gamma },
            Columns::Each(each) if positive => {
                let w = each[column];
                Terms::Same { weight: factor * w.positive, gamma: w.gamma }
            }
            Columns::Each(_) => Terms::Each {
                weight: &self.negative[column..],
                gamma: &self.gamma[column..],
                factor,
                focus: self.focus,
            },
        }
    }
}

/// The sums over a block of rows.
struct Block {
    positive: f64,
    negative: f64,
    tally: Option<Tally>,
}

/// Consecutive pairs that are all positives or all negatives.
struct Part {
    /// Indices of the pairs in the block.
    pairs: Range<usize>,
    /// The class of the first pair.
    column: usize,
    positive: bool,
    /// Factor by which the pairs' weights are multiplied.
    factor: f32,
    level: usize,
}

/// Computes the sums over a block of rows that begins with row `first`; initialises the whole gradient of the block.
fn block(
    pieces: &Pieces<'_>,
    first: usize,
    x: &[f32],
    classes: &[i32],
    mut grad: Option<&mut [MaybeUninit<f32>]>,
) -> Block {
    let (plan, width) = (pieces.plan, pieces.width);
    let tally = plan.breakdown.map(|_| Tally::new(width, pieces.len));
    let mut sums = Block { positive: 0.0, negative: 0.0, tally };
    let mut losses = vec![0f32; if plan.is_fast() { 0 } else { pieces.len }];
    let mut row = 0;
    while row < classes.len() {
        let class = classes[row];
        // Consecutive background (or ignored) anchors of a level are treated as one run.
        let mut same = if class < 0 { classes[row..].iter().take_while(|c| **c == class).count() } else { 1 };
        let level = plan.breakdown.map_or(0, |layout| {
            let (level, left) = layout.level((first + row) % layout.anchors());
            same = same.min(left);
            level
        });
        let (from, to) = (row * width, (row + same) * width);
        if class <= IGNORE {
            if let Some(grad) = &mut grad {
                grad[from..to].fill(MaybeUninit::new(0.0));
            }
        } else if class < 0 {
            let part = Part { pairs: from..to, column: 0, positive: false, factor: 1.0, level };
            sums.add(pieces, part, x, &mut grad, &mut losses);
        } else {
            let class = class as usize;
            assert!(class < width, "class loss: class {class} of {width}");
            let factor = plan.rows.as_ref().map_or(1.0, |rows| rows[class]);
            for (columns, positive) in [(0..class, false), (class..class + 1, true), (class + 1..width, false)] {
                if !columns.is_empty() {
                    let pairs = from + columns.start..from + columns.end;
                    let part = Part { pairs, column: columns.start, positive, factor, level };
                    sums.add(pieces, part, x, &mut grad, &mut losses);
                }
            }
        }
        row += same;
    }
    sums
}

impl Block {
    fn add(
        &mut self,
        pieces: &Pieces<'_>,
        part: Part,
        x: &[f32],
        grad: &mut Option<&mut [MaybeUninit<f32>]>,
        losses: &mut [f32],
    ) {
        let Part { pairs, column, positive, factor, level } = part;
        let sum = if positive { &mut self.positive } else { &mut self.negative };
        if let (Columns::Same(w), None) = (&pieces.plan.columns, &self.tally) {
            *sum += loss(&x[pairs.clone()], positive, w.times(factor), grad.as_mut().map(|g| &mut g[pairs]));
            return;
        }
        // A part that does not begin at the start of a row ends with that row, so that it is a single piece.
        let terms = pieces.terms(column, positive, factor);
        for from in pairs.clone().step_by(pieces.len) {
            let piece = from..(from + pieces.len).min(pairs.end);
            let losses = &mut losses[..piece.len()];
            let grad = grad.as_mut().map(|g| &mut g[piece.clone()]);
            let found = measured(&x[piece], positive, terms, grad, losses);
            *sum += found.loss;
            if let Some(tally) = &mut self.tally {
                tally.part(level, column, positive, found, losses);
            }
        }
    }
}

/// The gradient with respect to the logits, that of each image multiplied by the gradient of its loss, `by [images]`.
pub(super) fn scaled<T: CpuTensor>(grad: T, by: T) -> T {
    let by = by.contiguous();
    let by = by.f32s();
    if by.iter().all(|by| *by == 1.0) {
        return grad;
    }
    let [rows, width] = grad.sizes();
    let anchors = rows / by.len();
    map_planes(grad, width, |row, values| values.iter_mut().for_each(|v| *v *= by[row / anchors]))
}
