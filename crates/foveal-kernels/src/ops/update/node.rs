//! The kernels of the norm and the update as operations of Burn's fusion backend.
//!
//! The macro `backend_extension` takes operations with a fixed number of tensors. These have as many as an adapter can
//! bind, so they are registered here. Each starts one kernel.
use std::fmt;

use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, OperationOutput, StreamId, TensorIr, TensorSpec,
};
use burn::backend::fusion::{FusionBackend, FusionRuntime, FusionTensor};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, ExecutionError, TensorMetadata,
};
use burn::tensor::{Bool, DType, Tensor};

use super::kernel::FOLDED;
use super::launch::{self, Chunk};
use super::{Trained, Update, UpdateRule};

type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
type Fused = FusionTensor<Runtime>;

/// Most buffers of a kernel. A kernel has code for each of its tensors.
const MOST_BUFFERS: usize = 64;
/// Number of buffers of a kernel for its numbers, such as lengths of tensors.
const SCALARS: usize = 1;

/// Whether the kernels take the tensor: it is on a GPU and `f32`, without autodiff.
pub(super) fn takes(tensor: &DispatchTensor) -> bool {
    matches!(&tensor.kind, DispatchTensorKind::Cube(BackendTensor::Float(x)) if x.dtype == DType::F32)
}

fn fused(tensor: DispatchTensor) -> Fused {
    match tensor.kind {
        DispatchTensorKind::Cube(BackendTensor::Float(x) | BackendTensor::Bool(x)) => x,
        kind => panic!("expected a tensor on a GPU without autodiff, found {kind:?}"),
    }
}

fn float(tensor: Fused) -> DispatchTensor {
    let kind = DispatchTensorKind::Cube(BackendTensor::Float(tensor));
    DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled }
}

fn flag(tensor: Fused) -> DispatchTensor {
    let kind = DispatchTensorKind::Cube(BackendTensor::Bool(tensor));
    DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled }
}

/// A registered operation: its inputs and outputs, and how the outputs are computed.
struct Registered<F> {
    name: &'static str,
    inputs: Vec<TensorIr>,
    outputs: Vec<TensorIr>,
    compute: F,
}

impl<F> fmt::Debug for Registered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn(Vec<CubeTensor>) -> Vec<CubeTensor> + Send + Sync> Operation<Runtime> for Registered<F> {
    fn execute(
        &self,
        handles: &mut HandleContainer<<Runtime as FusionRuntime>::FusionHandle>,
    ) -> Result<(), ExecutionError> {
        // Floats and flags are tensors of the same type in this backend.
        let inputs = self.inputs.iter().map(|input| handles.get_float_tensor::<CubeBackend>(input)).collect();
        for (output, tensor) in self.outputs.iter().zip((self.compute)(inputs)) {
            handles.register_float_tensor::<CubeBackend>(&output.id, tensor);
        }
        Ok(())
    }
}

/// Registers an operation that computes `outputs` from `inputs`. An input that nothing else uses is given up, so that
/// the kernel can write to its memory.
fn register(
    name: &'static str,
    inputs: Vec<Fused>,
    outputs: Vec<TensorSpec>,
    compute: impl Fn(Vec<CubeTensor>) -> Vec<CubeTensor> + Send + Sync + 'static,
) -> Vec<Fused> {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let new = |spec: TensorSpec| TensorIr::uninit(client.create_empty_handle(), spec.shape, spec.dtype);
    let outputs: Vec<TensorIr> = outputs.into_iter().map(new).collect();
    let operation = OperationIr::Custom(CustomOpIr::new(name, &inputs, &outputs));
    client.register(StreamId::current(), operation, Registered { name, inputs, outputs, compute })
}

fn vector(length: usize) -> TensorSpec {
    TensorSpec::new([length].into(), DType::F32)
}

/// The sizes of the parts in which `count` tensors are processed, with `buffers` buffers for each tensor and `others`
/// further ones in a kernel. At most two sizes differ, so that few kernels are compiled.
fn chunks(like: &Fused, count: usize, buffers: usize, others: usize) -> impl Iterator<Item = usize> {
    let client = like.client.device().client();
    // Kernels in SPIR-V get the addresses of their buffers, of which there may be any number; others bind each buffer.
    let bindings = match crate::gpu::language(&client) {
        "SPIR-V" => MOST_BUFFERS,
        _ => MOST_BUFFERS.min(client.properties().hardware.max_bindings as usize),
    };
    let most = (bindings.saturating_sub(others + SCALARS) / buffers).max(1);
    let size = count.div_ceil(count.div_ceil(most).max(1)).max(1);
    (0..count).step_by(size).map(move |start| size.min(count - start))
}

/// The L2 norm of all elements of `tensors`, of which there is at least one: `[1]`.
pub(super) fn l2_norm(tensors: Vec<DispatchTensor>) -> Tensor<1> {
    let tensors: Vec<Fused> = tensors.into_iter().map(fused).collect();
    let sums = |tensors: &[Fused]| -> usize {
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.shape.num_elements()).collect();
        launch::sums_of(&lengths)
    };
    let total = sums(&tensors);
    let mut partials: Option<Fused> = None;
    let mut offset = 0;
    let sizes: Vec<usize> = chunks(&tensors[0], tensors.len(), 1, 1).collect();
    let mut tensors = tensors.into_iter();
    for size in sizes {
        let mut inputs: Vec<Fused> = tensors.by_ref().take(size).collect();
        let (start, has_partials) = (offset, partials.is_some());
        offset += sums(&inputs);
        inputs.extend(partials.take());
        let compute = move |mut inputs: Vec<CubeTensor>| {
            let partials = if has_partials { inputs.pop() } else { None };
            vec![launch::squares(inputs, partials, start, total)]
        };
        partials = Some(register("sums_of_squares", inputs, vec![vector(total)], compute).output());
    }
    let partials = partials.expect("there is a tensor");
    let one = |name, input: Fused, length: usize, compute: fn(CubeTensor) -> CubeTensor| -> Fused {
        let compute = move |inputs: Vec<CubeTensor>| inputs.into_iter().map(compute).collect();
        register(name, vec![input], vec![vector(length)], compute).output()
    };
    let folded = one("folded_sums", partials, FOLDED, launch::fold);
    Tensor::from_dispatch(float(one("l2_norm", folded, 1, launch::root)))
}

/// The factor of clipping and the flag of [`super::clip`].
pub(super) fn clip(loss: Tensor<1>, norm: Tensor<1>, limits: [f32; 2]) -> (Tensor<1>, Tensor<1, Bool>) {
    let flags = DType::from(norm.device().settings().bool_dtype);
    let inputs = [loss, norm].map(|tensor| fused(tensor.into_dispatch())).to_vec();
    let outputs = vec![vector(1), TensorSpec::new([1].into(), flags)];
    let compute = move |inputs: Vec<CubeTensor>| {
        let [loss, norm]: [CubeTensor; 2] = inputs.try_into().expect("loss and norm");
        launch::clip(loss, norm, limits, flags).to_vec()
    };
    let [factor, finite] = register("clipping", inputs, outputs, compute).outputs();
    (Tensor::from_dispatch(float(factor)), Tensor::from_dispatch(flag(finite)))
}

/// Updates parameters and their states, see [`super::update_parameters`].
pub(super) fn update(
    updates: Vec<Update>,
    rule: UpdateRule,
    factor: Tensor<1>,
    finite: Tensor<1, Bool>,
) -> Vec<Trained> {
    let (factor, finite) = (fused(factor.into_dispatch()), fused(finite.into_dispatch()));
    let buffers = match rule {
        UpdateRule::Sgd { .. } => 3,
        UpdateRule::AdamW { .. } => 4,
    };
    let sizes: Vec<usize> = chunks(&factor, updates.len(), buffers, 2).collect();
    let mut updates = updates.into_iter();
    let mut trained = Vec::with_capacity(updates.len());
    for size in sizes {
        let chunk: Vec<Update> = updates.by_ref().take(size).collect();
        trained.extend(update_chunk(chunk, rule, [factor.clone(), finite.clone()]));
    }
    trained
}

/// Updates the parameters of one kernel.
fn update_chunk(updates: Vec<Update>, rule: UpdateRule, [factor, finite]: [Fused; 2]) -> Vec<Trained> {
    let (rates, decays): (Vec<f32>, Vec<f32>) = updates.iter().map(|update| (update.rate, update.decay)).unzip();
    let count = updates.len();
    let (mut gradients, mut params, mut firsts, mut seconds) = (vec![], vec![], vec![], vec![]);
    for Update { trained, gradient, .. } in updates {
        gradients.push(fused(gradient));
        params.push(fused(trained.param));
        firsts.push(fused(trained.first));
        seconds.extend(trained.second.map(fused));
    }
    let specs = params.iter().chain(&firsts).chain(&seconds);
    let outputs = specs.map(|tensor| TensorSpec::new(tensor.shape(), tensor.dtype)).collect();
    let inputs = [vec![factor, finite], gradients, params, firsts, seconds].into_iter().flatten().collect();
    let compute = move |inputs: Vec<CubeTensor>| {
        let mut inputs = inputs.into_iter();
        let mut next = |count: usize| -> Vec<CubeTensor> { inputs.by_ref().take(count).collect() };
        let [factor, finite]: [CubeTensor; 2] = next(2).try_into().expect("factor and flag");
        let (gradients, params, firsts) = (next(count), next(count), next(count));
        let chunk = Chunk { factor, finite, gradients, params, firsts, seconds: next(count) };
        chunk.update(rule, &rates, &decays)
    };
    let mut outputs = register("update_parameters", inputs, outputs, compute).into_iter();
    let mut next = || -> Vec<DispatchTensor> { outputs.by_ref().take(count).map(float).collect() };
    let (params, firsts) = (next(), next());
    let mut seconds = next().into_iter();
    let state = params.into_iter().zip(firsts);
    state.map(|(param, first)| Trained { param, first, second: seconds.next() }).collect()
}

/// Moves averages towards values, see [`super::update_averages`].
pub(super) fn average(
    pairs: Vec<(DispatchTensor, DispatchTensor)>,
    share: f32,
    finite: Tensor<1, Bool>,
) -> Vec<DispatchTensor> {
    let finite = fused(finite.into_dispatch());
    let sizes: Vec<usize> = chunks(&finite, pairs.len(), 2, 1).collect();
    let mut pairs = pairs.into_iter().map(|(average, value)| (fused(average), fused(value)));
    let mut moved = Vec::with_capacity(pairs.len());
    for size in sizes {
        let (averages, values): (Vec<Fused>, Vec<Fused>) = pairs.by_ref().take(size).unzip();
        let outputs = averages.iter().map(|tensor| TensorSpec::new(tensor.shape(), tensor.dtype)).collect();
        let inputs = [vec![finite.clone()], averages, values].into_iter().flatten().collect();
        let compute = move |inputs: Vec<CubeTensor>| {
            let mut inputs = inputs.into_iter();
            let finite = inputs.next().expect("the flag");
            let averages = inputs.by_ref().take(size).collect();
            launch::average(&finite, averages, inputs.collect(), share)
        };
        moved.extend(register("update_averages", inputs, outputs, compute).into_iter().map(float));
    }
    moved
}
