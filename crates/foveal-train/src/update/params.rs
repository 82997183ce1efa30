//! Tensors by parameter path, the key that optimizer, moving average and state files use. Burn's own parameter ids are
//! not stable, since every process creates new ones.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use foveal_weights::{HostTensor, ParamPath, TensorMap};

/// Tensors without autodiff by the path of their parameter (`head.classification_head.cls_logits.bias`), in the order
/// of the paths. Each is flattened to one dimension: `[elements]`.
pub type FlatTensors = BTreeMap<String, Tensor<1>>;

/// Flattens a tensor to `[elements]`, without autodiff.
pub(crate) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let tensor = tensor.without_autodiff();
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

/// Returns the floating-point tensors of `module` whose paths `keep` accepts, with the running statistics of batch norms.
/// Nothing is read from the device.
pub(crate) fn flat_tensors<M: Module>(module: &M, keep: fn(&str) -> bool) -> FlatTensors {
    let mut collect = Collect { path: ParamPath::default(), keep, out: FlatTensors::new() };
    // `valid` first applies pending updates of the running statistics, which a visit would not see.
    module.valid().visit(&mut collect);
    collect.out
}

struct Collect {
    path: ParamPath,
    keep: fn(&str) -> bool,
    out: FlatTensors,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        if (self.keep)(&name) {
            self.out.insert(name, flat(param.val()));
        }
    }
}

/// Runs `update` on the elements of a tensor in host memory. Its memory is copied only if another tensor shares it.
pub(crate) fn with_slice(tensor: Tensor<1>, update: impl FnOnce(&mut [f32])) -> Tensor<1> {
    let device = tensor.device();
    // The tensor lies in host memory, so no device is waited for.
    let mut data = tensor.into_data();
    update(data.as_mut_slice::<f32>().expect("parameters are f32"));
    Tensor::from_data(data, &device)
}

/// Copies tensors to the host, converted to f32, with shape `[elements]`. Waits for the device once for each tensor.
pub fn to_host(tensors: &FlatTensors) -> TensorMap {
    let copy = |tensor: &Tensor<1>| {
        let values: Vec<f32> =
            tensor.to_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
        HostTensor { shape: vec![values.len()], values }
    };
    tensors.iter().map(|(path, tensor)| (path.clone(), copy(tensor))).collect()
}

/// Copies tensors to `device` without autodiff, each flattened to `[elements]`.
pub fn from_host(tensors: &TensorMap, device: &Device) -> FlatTensors {
    let device = device.clone().without_autodiff();
    let copy = |t: &HostTensor| Tensor::from_data(TensorData::new(t.values.clone(), [t.values.len()]), &device);
    tensors.iter().map(|(path, tensor)| (path.clone(), copy(tensor))).collect()
}
