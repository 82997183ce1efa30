//! The operations of canvases as operations of Burn's backends, with their autodiff nodes.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Flex, NdArray, TensorMetadata, backend_extension, tensor::FloatTensor,
};

use super::{CANVAS_LEVELS, CanvasLayout, composed, map_shape};

/// The host values of the operations.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Where the maps lie.
    pub(super) layout: CanvasLayout,
    /// Whether to use Burn's operations on a GPU too.
    #[cfg(feature = "wgpu")]
    pub(super) reference: bool,
}

/// A tensor for each level that a canvas can hold.
type EachLevel<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// Extension of Burn's backends by the operations of canvases. The default methods use Burn's operations. The GPU
/// backend has kernels of its own.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"), Autodiff)]
pub(super) trait CanvasOps: Backend {
    /// Places the maps in a canvas. Returns the canvas and its mask. Tensors beyond the last level are not read.
    #[fusion(meta = |m0, _m1, _m2, _m3, _m4, plan| spec::placed(m0, plan))]
    fn canvas_place(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::place::<Self>(&[m0, m1, m2, m3, m4], &plan.layout)
    }

    /// The maps of the levels of a canvas, which are the gradients of [`canvas_place`](Self::canvas_place) if the
    /// canvas is a gradient. Beyond the last level there is a single number without meaning.
    #[allow(clippy::type_complexity, reason = "the macro reads the tuple itself, not the name of a type")]
    #[fusion(meta = spec::split)]
    fn canvas_split(
        canvas: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        split_composed::<Self>(&canvas, &plan)
    }

    /// The values of all anchors, `[batch, anchors, values]`.
    #[fusion(meta = spec::rows)]
    fn canvas_rows(canvas: FloatTensor<Self>, plan: Plan, values: usize) -> FloatTensor<Self> {
        composed::rows::<Self>(&canvas, &plan.layout, values)
    }

    /// A canvas of `channels` channels from the values of all anchors, with zeros between the levels. It is the
    /// gradient of [`canvas_rows`](Self::canvas_rows) if the values are a gradient.
    #[fusion(meta = spec::from_rows)]
    fn canvas_from_rows(rows: FloatTensor<Self>, plan: Plan, channels: usize) -> FloatTensor<Self> {
        composed::from_rows::<Self>(&rows, &plan.layout, channels)
    }
}

/// The shapes and data types of the results.
#[cfg(feature = "wgpu")]
mod spec {
    use burn::backend::fusion::custom::TensorSpec;
    use burn::tensor::Shape;

    use super::{CANVAS_LEVELS, Plan, map_shape};

    fn canvas(like: &TensorSpec, plan: &Plan, batch: usize, channels: usize) -> TensorSpec {
        let size = plan.layout.size();
        TensorSpec::new(Shape::from([batch, channels, size.height, size.width]), like.dtype)
    }

    pub(super) fn placed(map: &TensorSpec, plan: &Plan) -> (TensorSpec, TensorSpec) {
        let [batch, channels, _, _] = map.shape.dims();
        (canvas(map, plan, batch, channels), canvas(map, plan, 1, 1))
    }

    pub(super) fn split(
        canvas: &TensorSpec,
        plan: &Plan,
    ) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
        let [batch, channels, _, _] = canvas.shape.dims();
        let of = |level| TensorSpec::new(map_shape(&plan.layout, level, batch, channels), canvas.dtype);
        <[TensorSpec; CANVAS_LEVELS]>::into(std::array::from_fn(of))
    }

    pub(super) fn rows(canvas: &TensorSpec, plan: &Plan, values: &usize) -> TensorSpec {
        let [batch, channels, _, _] = canvas.shape.dims();
        let anchors = plan.layout.map_pixels() * (channels / values);
        TensorSpec::new(Shape::from([batch, anchors, *values]), canvas.dtype)
    }

    pub(super) fn from_rows(rows: &TensorSpec, plan: &Plan, channels: &usize) -> TensorSpec {
        let [batch, _, _] = rows.shape.dims();
        canvas(rows, plan, batch, *channels)
    }
}

/// Splits a canvas by Burn's operations, with a single number for each tensor beyond the last level.
pub(super) fn split_composed<B: Backend>(canvas: &FloatTensor<B>, plan: &Plan) -> EachLevel<B> {
    let mut maps = composed::split::<B>(canvas, &plan.layout);
    maps.extend(
        (maps.len()..CANVAS_LEVELS)
            .map(|level| B::float_zeros(map_shape(&plan.layout, level, 1, 1), &canvas.device(), canvas.dtype().into())),
    );
    <[FloatTensor<B>; CANVAS_LEVELS]>::try_from(maps).expect("a tensor for each level").into()
}

impl CanvasOps for NdArray {}
impl CanvasOps for Flex {}

#[cfg(feature = "wgpu")]
impl CanvasOps for burn::backend::wgpu::CubeBackend {
    fn canvas_place(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let maps = [m0, m1, m2, m3, m4];
        if plan.reference || !super::gpu::has_kernel(maps[0].dtype) {
            return composed::place::<Self>(&maps, &plan.layout);
        }
        super::gpu::place(maps, &plan.layout)
    }

    fn canvas_split(canvas: FloatTensor<Self>, plan: Plan) -> EachLevel<Self> {
        if plan.reference || !super::gpu::has_kernel(canvas.dtype) {
            return split_composed::<Self>(&canvas, &plan);
        }
        super::gpu::split(canvas, &plan.layout).into()
    }

    fn canvas_rows(canvas: FloatTensor<Self>, plan: Plan, values: usize) -> FloatTensor<Self> {
        if plan.reference || !super::gpu::has_kernel(canvas.dtype) {
            return composed::rows::<Self>(&canvas, &plan.layout, values);
        }
        super::gpu::rows(canvas, &plan.layout, values)
    }

    fn canvas_from_rows(rows: FloatTensor<Self>, plan: Plan, channels: usize) -> FloatTensor<Self> {
        if plan.reference || !super::gpu::has_kernel(rows.dtype) {
            return composed::from_rows::<Self>(&rows, &plan.layout, channels);
        }
        super::gpu::from_rows(rows, &plan.layout, channels)
    }
}

/// The autodiff node of a canvas. Its parents are the maps.
#[derive(Debug)]
struct PlaceNode;

impl<B: Backend + CanvasOps> Backward<B, CANVAS_LEVELS> for PlaceNode {
    type State = Plan;

    fn backward(self, ops: Ops<Plan, CANVAS_LEVELS>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let each: [FloatTensor<B>; CANVAS_LEVELS] = B::canvas_split(grad, ops.state).into();
        for (parent, grad) in ops.parents.into_iter().zip(each) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// The autodiff node of the values of all anchors. Its state has the number of channels of the canvas.
#[derive(Debug)]
struct RowsNode;

impl<B: Backend + CanvasOps> Backward<B, 1> for RowsNode {
    type State = (Plan, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (plan, channels) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::canvas_from_rows(grad, plan, channels));
    }
}

impl<B: Backend + CanvasOps, C: CheckpointStrategy> CanvasOps for Autodiff<B, C> {
    fn canvas_place(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let maps = [m0, m1, m2, m3, m4];
        let nodes = maps.each_ref().map(|map| map.node());
        let [m0, m1, m2, m3, m4] = maps.map(|map| map.into_primitive());
        let prep = Backward::<B, CANVAS_LEVELS>::prepare::<C>(PlaceNode, nodes).compute_bound().stateful();
        let (canvas, mask) = B::canvas_place(m0, m1, m2, m3, m4, plan.clone());
        let canvas = match prep {
            OpsKind::Tracked(prep) => prep.finish(plan, canvas),
            OpsKind::UnTracked(prep) => prep.finish(canvas),
        };
        (canvas, Self::from_inner(mask))
    }

    fn canvas_rows(canvas: FloatTensor<Self>, plan: Plan, values: usize) -> FloatTensor<Self> {
        let [_, channels, _, _] = canvas.shape().dims();
        let (canvas, guard) = canvas.into_parts();
        match Backward::<B, 1>::prepare::<C>(RowsNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let rows = B::canvas_rows(canvas, plan.clone(), values);
                prep.finish((plan, channels), rows)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::canvas_rows(canvas, plan, values)),
        }
    }
}
