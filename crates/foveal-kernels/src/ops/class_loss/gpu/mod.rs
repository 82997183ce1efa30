//! The class loss, its breakdown and the selection of the hardest background anchors as GPU kernels, written in CubeCL.
//! They are compiled to SPIR-V or WGSL.
//!
//! All sums are added in an order that depends on the shapes alone. WGSL has no atomic operations on floats, so each
//! unit writes partial sums, and further kernels add them up. Units share no memory of their workgroup.
mod breakdown;
mod element;
mod fold;
mod hardest;
mod loss;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, FloatDType, IntDType, Shape};
use cubecl::client::Client;
use cubecl::prelude::{BufferArg, CubeCount, CubeDim, SequenceArg};
use cubecl::{calculate_cube_count_elemwise, server::Handle};

use super::Plan;
use super::breakdown::BreakdownLayout;
use element::{Form, Shares};
use fold::{INNER, UNITS};

/// Number of units that sum the loss at most, and number of pairs that a unit sums at least.
const SUM_UNITS: usize = 1 << 18;
const SUM_PAIRS: usize = 8;
/// Number of sums that the partial sums of the loss are folded to before one unit adds them up.
const SUMS: usize = 512;
/// Number of units that sum the breakdown at most, and number of rows that a unit sums at least.
const BREAKDOWN_UNITS: usize = 1 << 15;
const BREAKDOWN_ROWS: usize = 8;
/// Number of sums that each partial sum of the breakdown is folded to.
const BREAKDOWN_SUMS: usize = 256;

/// Whether the kernels compute the loss of logits of this type.
pub(super) fn has_kernel(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// Workgroups with at least `count` units.
fn units(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    (calculate_cube_count_elemwise(client, count, dim), dim)
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

/// Folds `[rows, wide]` to `[rows, narrow]`.
fn folded(from: CubeTensor, narrow: usize) -> CubeTensor {
    let [rows, wide] = from.shape().dims();
    if wide <= narrow {
        return from;
    }
    let to = empty(&from, [rows, narrow], DType::F32);
    let client = from.client.clone();
    let (count, dim) = units(&client, rows * narrow);
    // SAFETY: the kernel reads at a row below `rows` and a column below `wide`, and writes below `rows * narrow`.
    unsafe {
        fold::narrow::launch_unchecked(
            &client,
            count,
            dim,
            from.into_buffer_arg(),
            to.clone().into_buffer_arg(),
            rows,
            wide,
            narrow,
        );
    }
    to
}

/// Computes the loss `[1]` and the sums `[2]`, to which the breakdown is appended if the plan has a layout, as `f32`.
pub(super) fn class_loss(logits: CubeTensor, classes: CubeTensor, plan: &Plan) -> (CubeTensor, CubeTensor) {
    let inputs = Inputs::new(logits, classes, plan);
    let [anchors, width] = inputs.dims();
    let (client, pairs) = (&inputs.logits.client, anchors * width);
    let sum_units = pairs.div_ceil(SUM_PAIRS).min(SUM_UNITS);
    let mut partials = empty(&inputs.logits, [2, sum_units], DType::F32);
    if pairs > 0 {
        let (count, dim) = units(client, sum_units);
        // SAFETY: the kernel reads the logits and the ids at indices below their sizes, the table at a class below the
        // number of classes, and writes two values for each unit.
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
                sum_units,
                pairs.div_ceil(sum_units * INNER),
                inputs.form,
                dtype_to_storage_type(inputs.logits.dtype),
            );
        }
        partials = folded(partials, SUMS);
    }
    let [_, parts] = partials.shape().dims();
    let values = plan.breakdown.map_or(0, |_| BreakdownLayout::values(width));
    let (total, sums) = (empty(&inputs.logits, [1], DType::F32), empty(&inputs.logits, [2 + values], DType::F32));
    let (count, dim) = units(client, 1);
    // SAFETY: the kernel reads two values of each part, and writes one and two values.
    unsafe {
        loss::total::launch_unchecked(
            client,
            count,
            dim,
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
    let groups = anchors.div_ceil(BREAKDOWN_ROWS).min(BREAKDOWN_UNITS / width.max(1)).max(1);
    let mut levels = SequenceArg::<usize>::new();
    layout.level_anchors.iter().for_each(|n| levels.push(*n));
    let partials = empty(&inputs.logits, [breakdown::PARTIALS, groups * width], DType::F32);
    if width > 0 {
        let (count, dim) = units(client, groups * width);
        // SAFETY: the kernel reads the logits and the ids at indices below their sizes, the table at a class below the
        // number of classes, and writes the values of each unit.
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
                levels,
                groups,
                layout.anchors(),
                inputs.form,
                dtype_to_storage_type(inputs.logits.dtype),
            );
        }
    }
    let narrow = folded(partials.clone(), BREAKDOWN_SUMS);
    let [_, columns] = narrow.shape().dims();
    let (count, dim) = units(client, BreakdownLayout::values(width));
    // SAFETY: the kernel reads below the sizes of both tensors, and writes one of the values after the first two.
    unsafe {
        breakdown::total_breakdown::launch_unchecked(
            client,
            count,
            dim,
            partials.into_buffer_arg(),
            narrow.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            width,
            groups,
            columns,
        );
    }
}

/// Computes the gradient with respect to the logits, `[anchors, classes]`, times the gradient of the loss, `by [1]`.
pub(super) fn gradient(logits: CubeTensor, classes: CubeTensor, by: CubeTensor, plan: &Plan) -> CubeTensor {
    let inputs = Inputs::new(logits, classes, plan);
    let [anchors, width] = inputs.dims();
    let (client, pairs, dtype) = (&inputs.logits.client, anchors * width, inputs.logits.dtype);
    let gradient = empty(&inputs.logits, [anchors, width], dtype);
    if pairs > 0 {
        let (count, dim) = units(client, pairs);
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
                CubeBackend::float_cast(by, FloatDType::F32).into_buffer_arg(),
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
    if images * anchors == 0 {
        return kept;
    }
    let client = costs.client.clone();
    let costs = CubeBackend::float_cast(costs, FloatDType::F32);
    let int = |t: CubeTensor| CubeBackend::int_cast(t, IntDType::I32);
    let (ids, keep) = (int(classes), int(keep));
    let slices = anchors.div_ceil(hardest::SLICE);
    let numbers = |count: usize| empty(&costs, [count], DType::U32);
    let (found, left) = (numbers(images), numbers(images));
    let (counts, totals) = (numbers(hardest::DIGITS * images * slices), numbers(images * hardest::DIGITS));
    let (of_slices, of_digits) = (units(&client, images * slices), units(&client, images * hardest::DIGITS));
    let of_images = units(&client, images);
    for shift in (0..u32::BITS).step_by(hardest::BITS as usize).rev() {
        let first = shift + hardest::BITS == u32::BITS;
        // SAFETY: the kernels read and write at an image, a slice and a digit below their numbers, and read an anchor
        // below the number of anchors.
        unsafe {
            hardest::count_digits::launch_unchecked(
                &client,
                of_slices.0.clone(),
                of_slices.1,
                costs.clone().into_tensor_arg(),
                ids.clone().into_tensor_arg(),
                found.clone().into_buffer_arg(),
                counts.clone().into_buffer_arg(),
                images,
                slices,
                shift,
            );
            hardest::total_digits::launch_unchecked(
                &client,
                of_digits.0.clone(),
                of_digits.1,
                counts.clone().into_buffer_arg(),
                totals.clone().into_buffer_arg(),
                images,
                slices,
            );
            hardest::find_digit::launch_unchecked(
                &client,
                of_images.0.clone(),
                of_images.1,
                totals.clone().into_buffer_arg(),
                keep.clone().into_tensor_arg(),
                found.clone().into_buffer_arg(),
                left.clone().into_buffer_arg(),
                images,
                first,
            );
        }
    }
    let ties = numbers(images * slices);
    // SAFETY: the kernels read and write at an image and a slice below their numbers, and at an anchor below the number
    // of anchors.
    unsafe {
        hardest::count_ties::launch_unchecked(
            &client,
            of_slices.0.clone(),
            of_slices.1,
            costs.clone().into_tensor_arg(),
            ids.clone().into_tensor_arg(),
            found.clone().into_buffer_arg(),
            ties.clone().into_buffer_arg(),
            images,
            slices,
        );
        hardest::write_kept::launch_unchecked(
            &client,
            of_slices.0,
            of_slices.1,
            costs.into_tensor_arg(),
            ids.into_tensor_arg(),
            found.into_buffer_arg(),
            left.into_buffer_arg(),
            ties.into_buffer_arg(),
            kept.clone().into_buffer_arg(),
            images,
            slices,
        );
    }
    kept
}
