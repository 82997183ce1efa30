//! Tensors whose values are never computed.
//!
//! An operation that reads such a tensor is registered, fused and scheduled as any other, but Burn does not run it, and
//! its results are withheld too. So the work on a network of any size can be counted in no time, without a kernel being
//! compiled or tuned. Reading a withheld tensor fails, which shows every place where the host waits for a value.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, OperationOutput, StreamId, TensorIr,
};
use burn::backend::fusion::{FusionRuntime, FusionTensor};
use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind, ExecutionError};
use burn::tensor::{Device, Tensor};

/// The reason that a read of a withheld tensor gives.
const WITHHELD: &str = "this value is withheld to count operations";

/// The operation that should compute a withheld tensor.
#[derive(Debug)]
struct Withhold;

impl<R: FusionRuntime> Operation<R> for Withhold {
    fn execute(&self, _handles: &mut HandleContainer<R::FusionHandle>) -> Result<(), ExecutionError> {
        Err(ExecutionError::with_context(WITHHELD))
    }
}

/// A withheld tensor on the device of `like`, with its shape and type.
fn in_place_of<R: FusionRuntime + 'static>(like: &FusionTensor<R>) -> FusionTensor<R> {
    let id = like.client.create_empty_handle();
    let output = TensorIr::uninit(id, like.shape.clone(), like.dtype);
    let operation = OperationIr::Custom(CustomOpIr::new("withhold", &[], &[output]));
    like.client.register(StreamId::current(), operation, Withhold).output()
}

/// A withheld tensor of the given shape, without autodiff.
pub(crate) fn withheld<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let like = Tensor::<D>::empty(shape, &device.clone().without_autodiff()).into_dispatch();
    let DispatchTensorKind::Cube(BackendTensor::Float(tensor)) = &like.kind else {
        panic!("expected a float tensor on a GPU, found {:?}", like.kind)
    };
    let kind = DispatchTensorKind::Cube(BackendTensor::Float(in_place_of(tensor)));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: like.autodiff })
}

/// Whether `work`, whose tensors are withheld, reads one of them.
pub(crate) fn reads<O>(work: impl FnOnce() -> O) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { return false };
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    if !text.contains(WITHHELD) {
        resume_unwind(panic);
    }
    true
}
