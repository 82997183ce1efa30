//! The class loss, its breakdown and the selection of the hardest background anchors as GPU kernels, written in CubeCL.
//! They are compiled to SPIR-V or WGSL.
//!
//! All sums are added in an order that depends on the shapes alone. WGSL has no atomic operations on floats, so each
//! workgroup writes partial sums, and a second kernel adds them up.
mod breakdown;
mod element;
mod hardest;
mod loss;
mod units;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, IntDType, Shape};
use cubecl::client::Client;
use cubecl::prelude::{BufferArg, CubeCount, CubeDim, SequenceArg};
use cubecl::{calculate_cube_count_elemwise, server::Handle};

use super::breakdown::BreakdownLayout;
use super::{BREAKDOWN_LEVELS, Plan};
use element::{Form, Shares};
use units::UNITS;

/// Number of pairs that a unit of a workgroup sums, for small tensors.
const ROUNDS: usize = 8;
/// Number of parts that the pairs are divided into at most.
const PARTS: usize = 16_384;

/// Whether the kernels compute the loss of logits of this type.
pub(super) fn has_kernel(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// Workgroups of [`UNITS`] units, at least `count`. The device may add some, to spread them over three dimensions.
fn workgroups(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    (calculate_cube_count_elemwise(client, count * UNITS, dim), dim)
}

/// A new tensor in row-major order with arbitrary values.
fn empty<const D: usize>(like: &CubeTensor, dims: [usize; D], dtype: DType) -> CubeTensor {
    let shape = Shape::from(dims);
    let handle = like.client.empty(shape.num_elements().max(1) * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// What the kernels of a class loss have in common.
struct Inputs {
    logits: CubeTensor,
    classes: CubeTensor,
    table: Handle,
    /// Number of values in the table.
    table_len: usize,
    form: Form,
}

impl Inputs {
    fn new(logits: CubeTensor, classes: CubeTensor, plan: &Plan) -> Self {
        let [_, width] = logits.shape().dims();
        let form = Form::of(plan);
        let (table, table_len) = if form.has_table() {
            let values = element::table(plan, width);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
            (logits.client.create_from_slice(&bytes), values.len())
        } else {
            // The kernels do not read it, but a buffer has to be bound.
            (logits.client.empty(size_of::<f32>()), 1)
        };
        let classes = CubeBackend::int_cast(classes, IntDType::I32);
        Self { logits, classes, table, table_len, form }
    }

    fn table(&self) -> BufferArg {
        // SAFETY: the buffer was made for this number of values.
        unsafe { BufferArg::from_raw_parts(self.table.clone(), self.table_len) }
    }

    /// Number of anchors and of classes.
    fn dims(&self) -> [usize; 2] {
        self.logits.shape().dims()
    }
}

/// Computes the loss `[1]` and the sums `[2]`, to which the breakdown is appended if the plan has a layout, as `f32`.
pub(super) fn class_loss(logits: CubeTensor, classes: CubeTensor, plan: &Plan) -> (CubeTensor, CubeTensor) {
    let inputs = Inputs::new(logits, classes, plan);
    let [anchors, width] = inputs.dims();
    let (client, pairs) = (&inputs.logits.client, anchors * width);
    let rounds = ROUNDS * pairs.div_ceil(UNITS * ROUNDS * PARTS).max(1);
    let parts = pairs.div_ceil(UNITS * rounds);
    let partials = empty(&inputs.logits, [2, parts], DType::F32);
    if parts > 0 {
        let (count, dim) = workgroups(client, parts);
        // SAFETY: the kernel reads the logits and the ids at indices below their sizes, the table at a class below the
        // number of classes, and writes two values for each part.
        unsafe {
            loss::partial_sums::launch_unchecked(
                client,
                count,
                dim,
                inputs.logits.clone().into_tensor_arg(),
                inputs.classes.clone().into_tensor_arg(),
                inputs.table(),
                partials.clone().into_buffer_arg(),
                Shares::of(plan),
                pairs,
                parts,
                rounds,
                inputs.form,
                dtype_to_storage_type(inputs.logits.dtype),
            );
        }
    }
    let values = plan.breakdown.map_or(0, |_| BreakdownLayout::values(width));
    let (total, sums) = (empty(&inputs.logits, [1], DType::F32), empty(&inputs.logits, [2 + values], DType::F32));
    // SAFETY: the kernel reads two values of each part, and writes one and two values.
    unsafe {
        loss::total::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            partials.into_buffer_arg(),
            total.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            parts,
        );
    }
    if let Some(layout) = &plan.breakdown {
        add_breakdown(&inputs, plan, layout, &sums);
    }
    (total, sums)
}

/// Writes the breakdown to `sums`, after its first two values.
fn add_breakdown(inputs: &Inputs, plan: &Plan, layout: &BreakdownLayout, sums: &CubeTensor) {
    let [anchors, width] = inputs.dims();
    let client = &inputs.logits.client;
    let rows = breakdown::chunk_rows(width);
    let per_image: usize = layout.level_anchors.iter().map(|n| n.div_ceil(rows)).sum();
    let chunks = anchors / layout.anchors() * per_image;
    let levels = || {
        let mut levels = SequenceArg::<usize>::new();
        layout.level_anchors.iter().for_each(|n| levels.push(*n));
        levels
    };
    let partials = empty(&inputs.logits, [breakdown::partial_values(width), chunks], DType::F32);
    let (count, dim) = workgroups(client, chunks);
    if chunks > 0 {
        // SAFETY: the kernel reads the logits and the ids at indices below their sizes, the table at a class below the
        // number of classes, and writes at a chunk below the number of chunks.
        unsafe {
            breakdown::partial_breakdown::launch_unchecked(
                client,
                count,
                dim,
                inputs.logits.clone().into_tensor_arg(),
                inputs.classes.clone().into_tensor_arg(),
                inputs.table(),
                partials.clone().into_buffer_arg(),
                Shares::of(plan),
                levels(),
                chunks,
                rows,
                inputs.form,
                dtype_to_storage_type(inputs.logits.dtype),
            );
        }
    }
    let (count, dim) = workgroups(client, BreakdownLayout::values(width));
    // SAFETY: the kernel reads at a chunk below the number of chunks, and writes one of the values after the first two.
    unsafe {
        breakdown::total_breakdown::launch_unchecked(
            client,
            count,
            dim,
            partials.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            levels(),
            width,
            chunks,
            rows,
        );
    }
    debug_assert_eq!(layout.level_anchors.len(), BREAKDOWN_LEVELS);
}

/// Computes the gradient with respect to the logits, `[anchors, classes]`, times the gradient of the loss, `by [1]`.
pub(super) fn gradient(logits: CubeTensor, classes: CubeTensor, by: CubeTensor, plan: &Plan) -> CubeTensor {
    let inputs = Inputs::new(logits, classes, plan);
    let [anchors, width] = inputs.dims();
    let (client, pairs, dtype) = (&inputs.logits.client, anchors * width, inputs.logits.dtype);
    let gradient = empty(&inputs.logits, [anchors, width], dtype);
    if pairs > 0 {
        let (count, dim) = workgroups(client, pairs.div_ceil(UNITS));
        // SAFETY: the kernel reads the logits and the ids at indices below their sizes, the table at a class below the
        // number of classes, and writes at indices below the number of pairs.
        unsafe {
            loss::gradients::launch_unchecked(
                client,
                count,
                dim,
                inputs.logits.clone().into_tensor_arg(),
                inputs.classes.clone().into_tensor_arg(),
                inputs.table(),
                CubeBackend::float_cast(by, burn::tensor::FloatDType::F32).into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                Shares::of(plan),
                pairs,
                inputs.form,
                dtype_to_storage_type(dtype),
            );
        }
    }
    gradient
}

/// Returns the classes of the anchors, in which the background anchors that are not among the `keep` hardest of their
/// image are ignored. Shapes as in [`super::keep_hardest_on_device`].
pub(super) fn keep_hardest(costs: CubeTensor, classes: CubeTensor, keep: CubeTensor) -> CubeTensor {
    let [images, anchors] = costs.shape().dims();
    let kept = empty(&costs, [images * anchors], DType::I32);
    if images * anchors > 0 {
        let (count, dim) = workgroups(&costs.client, images);
        let client = costs.client.clone();
        let int = |t: CubeTensor| CubeBackend::int_cast(t, IntDType::I32);
        // SAFETY: the kernel reads and writes at an anchor below the number of anchors, of an image below that of images.
        unsafe {
            hardest::hardest::launch_unchecked(
                &client,
                count,
                dim,
                CubeBackend::float_cast(costs, burn::tensor::FloatDType::F32).into_tensor_arg(),
                int(classes).into_tensor_arg(),
                int(keep).into_tensor_arg(),
                kept.clone().into_buffer_arg(),
                images,
            );
        }
    }
    kept
}
