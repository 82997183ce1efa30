//! The picking of candidates as an operation of Burn's backend for GPUs.
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Int, IntDType, Shape, Tensor, TensorData};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::kernel::{self, BINS, LOWEST, VALUES, bin_on_host};
use super::{CandidateOptions, DeviceCandidates, HEADER, RECORD};

/// The host values of the operation, see [`CandidateOptions`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    cut: f32,
    levels: usize,
    per_level: usize,
    capacity: usize,
}

pub(super) fn pick(logits: Tensor<3>, deltas: Tensor<3>, options: &CandidateOptions) -> DeviceCandidates {
    let as_floats = |tensor: Tensor<3>| tensor.without_autodiff().cast(FloatDType::F32);
    let (logits, deltas) = (as_floats(logits), as_floats(deltas));
    let ends = options.level_ends.iter().map(|end| *end as i32);
    let table: Vec<i32> = ends.chain(options.has_class.iter().map(|has| i32::from(*has))).collect();
    let table = TensorData::new(table.clone(), [table.len()]);
    let table = Tensor::<1, Int>::from_data(table, (&logits.device(), DType::I32));
    let plan = Plan {
        cut: options.cut.max(LOWEST),
        levels: options.level_ends.len(),
        per_level: options.per_level,
        capacity: options.capacity,
    };
    let (headers, records) = <Dispatch as CandidateOps>::pick_candidates(
        logits.into_dispatch(),
        deltas.into_dispatch(),
        table.into_dispatch(),
        plan,
    );
    DeviceCandidates { headers: Tensor::from_dispatch(headers), records: Tensor::from_dispatch(records) }
}

/// Extension of Burn's backend for GPUs by [`super::pick_candidates`].
#[backend_extension(Cube, Fusion)]
trait CandidateOps: Backend {
    /// Picks the candidates; see [`DeviceCandidates`] for the result. `table` has the first anchor after each level,
    /// and for each class channel 1 if it stands for a class and 0 otherwise.
    #[fusion(meta = |logits, _deltas, _table, plan| outputs(logits.shape.dims(), plan))]
    fn pick_candidates(
        logits: FloatTensor<Self>,
        deltas: FloatTensor<Self>,
        table: IntTensor<Self>,
        plan: Plan,
    ) -> (IntTensor<Self>, IntTensor<Self>);
}

/// Number of words of the headers and of the lists of a batch.
fn words(batch: usize, plan: &Plan) -> [usize; 2] {
    [batch * HEADER, batch * plan.capacity * RECORD]
}

fn outputs([batch, _, _]: [usize; 3], plan: &Plan) -> (TensorSpec, TensorSpec) {
    let [headers, records] = words(batch, plan).map(|words| TensorSpec::new([words].into(), DType::I32));
    (headers, records)
}

impl CandidateOps for CubeBackend {
    fn pick_candidates(
        logits: FloatTensor<Self>,
        deltas: FloatTensor<Self>,
        table: IntTensor<Self>,
        plan: Plan,
    ) -> (IntTensor<Self>, IntTensor<Self>) {
        let [batch, anchors, channels] = logits.shape().dims();
        let Plan { cut, levels, per_level, capacity } = plan;
        let groups = batch * levels;
        let [header_words, record_words] = words(batch, &plan);
        let (client, device) = (logits.client.clone(), logits.device.clone());
        // One axis, so that the values are contiguous on every device.
        let zeros = |words: usize| Self::int_zeros(Shape::from([words]), &device, IntDType::I32);
        let empty = |words: usize| Self::int_empty(Shape::from([words]), &device, IntDType::I32);
        let (histogram, headers) = (zeros(groups * BINS), zeros(header_words));
        let (edges, records) = (empty(groups), empty(record_words));
        let shape = |units: usize| {
            let dim = CubeDim::new(&client, units);
            (calculate_cube_count_elemwise(&client, units, dim), dim)
        };
        let reading = |values: usize| shape(values.div_ceil(VALUES));
        // SAFETY: The kernels read the logits and deltas within their shapes and strides, and `table`, which the caller
        // made of `levels` and `channels` words. Units beyond the last value do nothing. `histogram` has `BINS` words
        // for each image and level, and `bin_of` is below `BINS`; `edges` has one word for each image and level,
        // `headers` two words for each image. A pair is written only if its place in the list is below `capacity`.
        unsafe {
            let (count, dim) = reading(batch * anchors * channels);
            kernel::tally::launch_unchecked(
                &client,
                count.clone(),
                dim,
                logits.clone().into_tensor_arg(),
                table.clone().into_buffer_arg(),
                histogram.clone().into_buffer_arg(),
                headers.clone().into_buffer_arg(),
                cut,
                levels,
            );
            let (few, few_dim) = reading(batch * anchors * 4);
            let (deltas_arg, headers_arg) = (deltas.clone().into_tensor_arg(), headers.clone().into_buffer_arg());
            kernel::check_deltas::launch_unchecked(&client, few, few_dim, deltas_arg, headers_arg);
            let (cubes, cube_dim) = shape(groups);
            kernel::find_edges::launch_unchecked(
                &client,
                cubes,
                cube_dim,
                histogram.into_buffer_arg(),
                edges.clone().into_buffer_arg(),
                groups,
                u32::try_from(per_level).unwrap_or(u32::MAX),
                // The device may round the bin of the cut down by one.
                bin_on_host(cut).saturating_sub(1) as u32,
            );
            kernel::collect::launch_unchecked(
                &client,
                count,
                dim,
                logits.into_tensor_arg(),
                deltas.into_tensor_arg(),
                table.into_buffer_arg(),
                edges.into_buffer_arg(),
                headers.clone().into_buffer_arg(),
                records.clone().into_buffer_arg(),
                cut,
                capacity,
                levels,
            );
        }
        (headers, records)
    }
}
