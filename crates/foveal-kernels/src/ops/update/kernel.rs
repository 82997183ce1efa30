//! The GPU kernels of the norm and the update. Each processes several tensors in one launch, as the `foreach`
//! optimizers of torch do.
//!
//! Every workgroup processes one block of one tensor. The buffers are arguments of their own, so a unit compares the
//! position of its workgroup with the blocks of each tensor to find the one that it belongs to. Units share no memory
//! of their workgroup, which CubeCL 0.11.3 compiles wrongly for some adapters.
use cubecl::prelude::*;

/// Number of units of a workgroup, which every adapter supports.
pub(super) const UNITS: usize = 256;
/// Number of elements that a unit updates.
const UPDATED: usize = 4;
/// Number of elements of a block that a workgroup updates.
pub(super) const UPDATE_BLOCK: usize = UNITS * UPDATED;
/// Number of squares that are added before their sum is added to that of a unit, so that rounding errors stay small.
const INNER: usize = 8;
/// Number of sums of [`INNER`] squares that a unit adds up at most.
const ROUNDS: usize = 32;
/// Number of elements that a workgroup reads while each of its units adds [`INNER`] squares.
const ROUND: usize = UNITS * INNER;
/// Number of elements of a block whose squares a workgroup adds up.
pub(super) const SQUARES_BLOCK: usize = ROUND * ROUNDS;
/// Number of sums that the sums of all units are folded to before one unit adds them up.
pub(super) const FOLDED: usize = 256;
/// All bits of an `f32` except the sign.
const MAGNITUDE: u32 = 0x7fff_ffff;
/// The bits of infinity. NaN has a larger magnitude, and all finite numbers have a smaller one.
const INFINITY: u32 = 0x7f80_0000;

/// The place of the elements of the tensors of a launch.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Places {
    /// For each tensor the number of blocks of the tensors up to and including it.
    ends: Sequence<usize>,
    /// Number of elements of each tensor.
    lengths: Sequence<usize>,
}

impl Places {
    /// The launch argument for tensors with these numbers of elements, and the number of their blocks.
    pub(super) fn of(lengths: &[usize], block: usize) -> (PlacesLaunch, usize) {
        let mut blocks = 0;
        let (mut ends, mut of_tensors) = (SequenceArg::<usize>::new(), SequenceArg::<usize>::new());
        for length in lengths {
            blocks += length.div_ceil(block);
            ends.push(blocks);
            of_tensors.push(*length);
        }
        (PlacesLaunch::new(ends, of_tensors), blocks)
    }
}

/// The learning rates and decays of the tensors of a launch, see [`super::Update`].
#[derive(CubeType, CubeLaunch)]
pub(super) struct Rates {
    rates: Sequence<f32>,
    decays: Sequence<f32>,
}

/// The constants of AdamW that all tensors share, see [`super::UpdateRule::AdamW`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Moments {
    beta2: f32,
    rest1: f32,
    rest2: f32,
    root: f32,
    eps: f32,
}

/// Writes the sum of the squares of a part of a block in each unit to `partials`, from the place `offset` on. There are
/// `UNITS` sums for each block.
#[cube(launch_unchecked)]
pub(super) fn squares(tensors: &Sequence<Box<[f32]>>, partials: &mut [f32], places: &Places, offset: usize) {
    let mut first = 0usize;
    #[unroll]
    for t in 0..tensors.len() {
        let end = places.ends[t];
        if CUBE_POS >= first && CUBE_POS < end {
            let length = places.lengths[t];
            let block = (CUBE_POS - first) * SQUARES_BLOCK;
            let mut round = block + UNIT_POS as usize;
            let last = min(block + SQUARES_BLOCK, length);
            let mut sum = 0.0f32;
            while round < last {
                let mut some = 0.0f32;
                #[unroll]
                for i in 0..INNER {
                    let at = round + i * UNITS;
                    if at < last {
                        let value = tensors[t][at];
                        some += value * value;
                    }
                }
                sum += some;
                round += ROUND;
            }
            partials[offset + CUBE_POS * UNITS + UNIT_POS as usize] = sum;
        }
        first = end;
    }
}

/// Adds up `partials`, `[count]`, to `FOLDED` sums.
#[cube(launch_unchecked)]
pub(super) fn fold(partials: &[f32], sums: &mut [f32], count: usize) {
    if ABSOLUTE_POS < FOLDED {
        let mut round = ABSOLUTE_POS;
        let mut sum = 0.0f32;
        while round < count {
            let mut some = 0.0f32;
            #[unroll]
            for i in 0..INNER {
                let at = round + i * FOLDED;
                if at < count {
                    some += partials[at];
                }
            }
            sum += some;
            round += FOLDED * INNER;
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

/// Writes the root of the total of `FOLDED` sums to `norm`, in one unit.
#[cube(launch_unchecked)]
pub(super) fn root(sums: &[f32], norm: &mut [f32]) {
    if ABSOLUTE_POS == 0 {
        let mut sum = 0.0f32;
        for round in 0..FOLDED / INNER {
            let mut some = 0.0f32;
            #[unroll]
            for i in 0..INNER {
                some += sums[round * INNER + i];
            }
            sum += some;
        }
        norm[0] = sum.sqrt();
    }
}

/// Writes the factor of clipping, and whether loss and norm are finite, in one unit. They are read as the bits of their
/// values, so that no compiler can assume that they are finite.
#[cube(launch_unchecked)]
pub(super) fn clip<B: Numeric>(
    loss: &[u32],
    norm: &[u32],
    factor: &mut [f32],
    finite: &mut [B],
    limit: f32,
    epsilon: f32,
    #[define(B)] _flag: ElemType,
) {
    if ABSOLUTE_POS == 0 {
        let both = (loss[0] & MAGNITUDE) < INFINITY && (norm[0] & MAGNITUDE) < INFINITY;
        finite[0] = select(both, B::from_int(1), B::from_int(0));
        let mut shortened = 1.0f32;
        if limit > 0.0f32 {
            shortened = min(limit / (f32::reinterpret(norm[0]) + epsilon), 1.0f32);
        }
        factor[0] = shortened;
    }
}

/// Updates parameters and their momenta by [`super::UpdateRule::Sgd`]. Nothing is written if `finite` is 0.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "each buffer of a kernel is an argument")]
pub(super) fn sgd<B: Numeric>(
    factor: &[f32],
    finite: &[B],
    gradients: &Sequence<Box<[f32]>>,
    params: &mut Sequence<Box<[f32]>>,
    firsts: &mut Sequence<Box<[f32]>>,
    places: &Places,
    rates: &Rates,
    momentum: f32,
    #[define(B)] _flag: ElemType,
) {
    if finite[0] != B::from_int(0) {
        let mut first = 0usize;
        #[unroll]
        for t in 0..gradients.len() {
            let end = places.ends[t];
            if CUBE_POS >= first && CUBE_POS < end {
                let start = (CUBE_POS - first) * UPDATE_BLOCK + UNIT_POS as usize;
                let (ps, ms) = (&mut params[t], &mut firsts[t]);
                #[unroll]
                for i in 0..UPDATED {
                    let at = start + i * UNITS;
                    if at < places.lengths[t] {
                        let p = ps[at];
                        let m = momentum * ms[at] + (gradients[t][at] * factor[0] + rates.decays[t] * p);
                        ms[at] = m;
                        ps[at] = p - rates.rates[t] * m;
                    }
                }
            }
            first = end;
        }
    }
}

/// Updates parameters and their moments by [`super::UpdateRule::AdamW`]. Nothing is written if `finite` is 0.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "each buffer of a kernel is an argument")]
pub(super) fn adamw<B: Numeric>(
    factor: &[f32],
    finite: &[B],
    gradients: &Sequence<Box<[f32]>>,
    params: &mut Sequence<Box<[f32]>>,
    firsts: &mut Sequence<Box<[f32]>>,
    seconds: &mut Sequence<Box<[f32]>>,
    places: &Places,
    rates: &Rates,
    moments: &Moments,
    #[define(B)] _flag: ElemType,
) {
    if finite[0] != B::from_int(0) {
        let mut first = 0usize;
        #[unroll]
        for t in 0..gradients.len() {
            let end = places.ends[t];
            if CUBE_POS >= first && CUBE_POS < end {
                let start = (CUBE_POS - first) * UPDATE_BLOCK + UNIT_POS as usize;
                let (ps, ms, vs) = (&mut params[t], &mut firsts[t], &mut seconds[t]);
                #[unroll]
                for i in 0..UPDATED {
                    let at = start + i * UNITS;
                    if at < places.lengths[t] {
                        let (p, before, g) = (ps[at], ms[at], gradients[t][at] * factor[0]);
                        let m = before + moments.rest1 * (g - before);
                        let v = moments.beta2 * vs[at] + moments.rest2 * g * g;
                        ms[at] = m;
                        vs[at] = v;
                        ps[at] = p * rates.decays[t] - rates.rates[t] * (m / (v.sqrt() / moments.root + moments.eps));
                    }
                }
            }
            first = end;
        }
    }
}

/// Moves each average towards its value by a `share` of the difference. Nothing is written if `finite` is 0.
#[cube(launch_unchecked)]
pub(super) fn average<B: Numeric>(
    finite: &[B],
    values: &Sequence<Box<[f32]>>,
    averages: &mut Sequence<Box<[f32]>>,
    places: &Places,
    share: f32,
    #[define(B)] _flag: ElemType,
) {
    if finite[0] != B::from_int(0) {
        let mut first = 0usize;
        #[unroll]
        for t in 0..values.len() {
            let end = places.ends[t];
            if CUBE_POS >= first && CUBE_POS < end {
                let start = (CUBE_POS - first) * UPDATE_BLOCK + UNIT_POS as usize;
                let moved = &mut averages[t];
                #[unroll]
                for i in 0..UPDATED {
                    let at = start + i * UNITS;
                    if at < places.lengths[t] {
                        let before = moved[at];
                        moved[at] = before + share * (values[t][at] - before);
                    }
                }
            }
            first = end;
        }
    }
}
