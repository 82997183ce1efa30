//! The launches of the kernels of the norm and the update.
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, Shape};
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::prelude::*;

use super::UpdateRule;
use super::kernel::{self, FOLDED, MomentsLaunch, Places, RatesLaunch, SQUARES_BLOCK, UNITS, UPDATE_BLOCK};
use super::order::Order;

/// Number of partial sums that [`squares`] writes for tensors with these numbers of elements.
pub(super) fn sums_of(lengths: &[usize]) -> usize {
    lengths.iter().map(|length| length.div_ceil(SQUARES_BLOCK) * UNITS).sum()
}

/// A new vector with arbitrary values.
fn empty(like: &CubeTensor, length: usize, dtype: DType) -> CubeTensor {
    let handle = like.client.empty(length.max(1) * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from([length]), handle, dtype)
}

/// The launch argument for the buffers of tensors.
fn buffers(tensors: &[CubeTensor]) -> SequenceArg<Box<[f32]>> {
    tensors.iter().map(|tensor| tensor.clone().into_buffer_arg()).collect()
}

/// The numbers of elements of flat tensors.
fn lengths(tensors: &[CubeTensor]) -> Vec<usize> {
    tensors.iter().map(|tensor| tensor.meta.shape().num_elements()).collect()
}

/// Workgroups for the given number of blocks.
fn workgroups(client: &Client, blocks: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    (calculate_cube_count_elemwise(client, blocks * UNITS, dim), dim)
}

/// Writes the partial sums of the squares of `tensors` to `partials`, from the place `offset` on. Without `partials`, a
/// vector for `total` sums is made.
pub(super) fn squares(
    tensors: Vec<CubeTensor>,
    partials: Option<CubeTensor>,
    offset: usize,
    total: usize,
) -> CubeTensor {
    let tensors: Vec<CubeTensor> = tensors.into_iter().map(|tensor| Order::of(&tensor).flat(tensor)).collect();
    let partials = match partials {
        Some(partials) if partials.can_mut() => partials,
        Some(partials) => partials.copy(),
        None => empty(&tensors[0], total, DType::F32),
    };
    let client = &partials.client;
    let (places, blocks) = Places::of(&lengths(&tensors), SQUARES_BLOCK);
    if blocks > 0 {
        let (count, dim) = workgroups(client, blocks);
        // SAFETY: the kernel reads each tensor below its number of elements, and writes `UNITS` sums for each block
        // from `offset` on, as many as `sums_of` counts for these tensors.
        unsafe {
            kernel::squares::launch_unchecked(
                client,
                count,
                dim,
                buffers(&tensors),
                partials.clone().into_buffer_arg(),
                places,
                offset,
            );
        }
    }
    partials
}

/// Adds up partial sums, `[count]`, to `[FOLDED]` sums.
pub(super) fn fold(partials: CubeTensor) -> CubeTensor {
    let sums = empty(&partials, FOLDED, DType::F32);
    let client = partials.client.clone();
    let count = partials.meta.shape().num_elements();
    let (cubes, dim) = workgroups(&client, FOLDED / UNITS);
    // SAFETY: the kernel reads below `count` and writes below `FOLDED`.
    unsafe {
        kernel::fold::launch_unchecked(
            &client,
            cubes,
            dim,
            partials.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            count,
        );
    }
    sums
}

/// The root of the total of `FOLDED` sums, `[1]`.
pub(super) fn root(sums: CubeTensor) -> CubeTensor {
    let norm = empty(&sums, 1, DType::F32);
    let client = sums.client.clone();
    let (count, dim) = workgroups(&client, 1);
    // SAFETY: the kernel reads `FOLDED` values and writes one.
    unsafe {
        kernel::root::launch_unchecked(&client, count, dim, sums.into_buffer_arg(), norm.clone().into_buffer_arg());
    }
    norm
}

/// The factor of clipping and whether both `loss` and `norm` are finite, each `[1]`, the latter of the type `flag`.
pub(super) fn clip(loss: CubeTensor, norm: CubeTensor, limits: [f32; 2], flag: DType) -> [CubeTensor; 2] {
    let (factor, finite) = (empty(&norm, 1, DType::F32), empty(&norm, 1, flag));
    let client = norm.client.clone();
    let (count, dim) = workgroups(&client, 1);
    let [limit, epsilon] = limits;
    // SAFETY: the kernel reads one value of both inputs and writes one of both outputs.
    unsafe {
        kernel::clip::launch_unchecked(
            &client,
            count,
            dim,
            loss.into_buffer_arg(),
            norm.into_buffer_arg(),
            factor.clone().into_buffer_arg(),
            finite.clone().into_buffer_arg(),
            limit,
            epsilon,
            dtype_to_storage_type(flag),
        );
    }
    [factor, finite]
}

/// The tensors of the parameters of a launch, and whether and how their gradients are used.
pub(super) struct Chunk {
    /// `[1]`.
    pub(super) factor: CubeTensor,
    /// `[1]`, of a type of flags.
    pub(super) finite: CubeTensor,
    pub(super) gradients: Vec<CubeTensor>,
    pub(super) params: Vec<CubeTensor>,
    pub(super) firsts: Vec<CubeTensor>,
    /// Empty with SGD.
    pub(super) seconds: Vec<CubeTensor>,
}

impl Chunk {
    /// Updates the parameters in the memory layout of their gradients, and in their own memory if nothing else uses it.
    /// Returns the parameters, then the first and the second moments. `rates` and `decays` have one value for each
    /// parameter.
    pub(super) fn update(self, rule: UpdateRule, rates: &[f32], decays: &[f32]) -> Vec<CubeTensor> {
        let orders: Vec<Order> = self.gradients.iter().map(Order::of).collect();
        let own = |tensors: Vec<CubeTensor>| -> Vec<CubeTensor> {
            orders.iter().zip(tensors).map(|(order, tensor)| order.flat_own(tensor)).collect()
        };
        let gradients: Vec<CubeTensor> =
            orders.iter().zip(self.gradients).map(|(order, tensor)| order.flat(tensor)).collect();
        let (params, firsts, seconds) = (own(self.params), own(self.firsts), own(self.seconds));
        let client = &self.factor.client;
        let (places, blocks) = Places::of(&lengths(&gradients), UPDATE_BLOCK);
        let scalars = |values: &[f32]| values.iter().copied().collect::<SequenceArg<f32>>();
        let rates = RatesLaunch::new(scalars(rates), scalars(decays));
        let (count, dim) = workgroups(client, blocks.max(1));
        let (factor, finite) = (self.factor.clone().into_buffer_arg(), self.finite.clone().into_buffer_arg());
        let flag = dtype_to_storage_type(self.finite.dtype);
        // SAFETY: the kernels read one value of `factor` and of `finite`. They read and write the tensors of a
        // parameter below its number of elements, which is the same for all of them.
        unsafe {
            match rule {
                UpdateRule::Sgd { momentum } => kernel::sgd::launch_unchecked(
                    client,
                    count,
                    dim,
                    factor,
                    finite,
                    buffers(&gradients),
                    buffers(&params),
                    buffers(&firsts),
                    places,
                    rates,
                    momentum,
                    flag,
                ),
                UpdateRule::AdamW { beta2, rest: [rest1, rest2], root, eps } => kernel::adamw::launch_unchecked(
                    client,
                    count,
                    dim,
                    factor,
                    finite,
                    buffers(&gradients),
                    buffers(&params),
                    buffers(&firsts),
                    buffers(&seconds),
                    places,
                    rates,
                    MomentsLaunch::new(beta2, rest1, rest2, root, eps),
                    flag,
                ),
            }
        }
        let back = |(order, tensor): (&Order, CubeTensor)| order.restored(tensor);
        [params, firsts, seconds].into_iter().flat_map(|tensors| orders.iter().zip(tensors).map(back)).collect()
    }
}

/// Moves `averages` towards `values` by a `share` of the difference, in the memory layout of the values. Nothing
/// changes if `finite`, `[1]`, is false.
pub(super) fn average(
    finite: &CubeTensor,
    averages: Vec<CubeTensor>,
    values: Vec<CubeTensor>,
    share: f32,
) -> Vec<CubeTensor> {
    let orders: Vec<Order> = values.iter().map(Order::of).collect();
    let averages: Vec<CubeTensor> = orders.iter().zip(averages).map(|(order, tensor)| order.flat_own(tensor)).collect();
    let values: Vec<CubeTensor> = orders.iter().zip(values).map(|(order, tensor)| order.flat(tensor)).collect();
    let (places, blocks) = Places::of(&lengths(&values), UPDATE_BLOCK);
    let (count, dim) = workgroups(&finite.client, blocks.max(1));
    // SAFETY: the kernel reads one value of `finite`, and reads and writes each value and its average below their
    // number of elements, which is the same.
    unsafe {
        kernel::average::launch_unchecked(
            &finite.client,
            count,
            dim,
            finite.clone().into_buffer_arg(),
            buffers(&values),
            buffers(&averages),
            places,
            share,
            dtype_to_storage_type(finite.dtype),
        );
    }
    orders.iter().zip(averages).map(|(order, tensor)| order.restored(tensor)).collect()
}
