//! Tensors by parameter path, the key that optimizer, moving average and state files use. Burn's own parameter ids are
//! not stable, since every process creates new ones.

use std::collections::BTreeMap;

use burn::backend::TensorMetadata;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, DispatchTensor, Shape, Tensor, TensorData, Transaction};
use foveal_weights::{HostTensor, ParamPath, TensorMap, tensor_shapes};

/// Tensors without autodiff by the path of their parameter (`head.classification_head.cls_logits.bias`), in the order
/// of the paths. Each has the shape of its parameter.
pub type ParamTensors = BTreeMap<String, ParamTensor>;

/// A floating-point tensor of the shape of a parameter (1 to 4 dimensions), without autodiff.
///
/// It keeps the memory layout in which it was computed. On GPUs, weight gradients of convolutions are permuted views of
/// channels-last memory, and a reshape of such a view to fewer dimensions would copy it.
#[derive(Clone, Debug)]
pub struct ParamTensor(DispatchTensor);

/// Evaluates an expression with a [`ParamTensor`] as a [`Tensor`] of its number of dimensions.
macro_rules! with_rank {
    ($tensor:expr, $typed:ident => $body:expr) => {{
        let tensor: $crate::update::params::ParamTensor = $tensor;
        match tensor.shape().num_dims() {
            1 => {
                let $typed = tensor.into_rank::<1>();
                $body
            }
            2 => {
                let $typed = tensor.into_rank::<2>();
                $body
            }
            3 => {
                let $typed = tensor.into_rank::<3>();
                $body
            }
            4 => {
                let $typed = tensor.into_rank::<4>();
                $body
            }
            rank => panic!("expected a parameter with 1 to 4 dimensions, found one with {rank}"),
        }
    }};
}
pub(super) use with_rank;

impl ParamTensor {
    /// A tensor of the shape of a parameter. Its part in an autodiff graph is dropped.
    pub fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        Self(tensor.without_autodiff().into_dispatch())
    }

    /// Copies `data` to `device`, which has no autodiff.
    fn from_data(data: TensorData, device: &Device) -> Self {
        match data.shape().num_dims() {
            1 => Self::new(Tensor::<1>::from_data(data, device)),
            2 => Self::new(Tensor::<2>::from_data(data, device)),
            3 => Self::new(Tensor::<3>::from_data(data, device)),
            4 => Self::new(Tensor::<4>::from_data(data, device)),
            rank => panic!("expected a parameter with 1 to 4 dimensions, found one with {rank}"),
        }
    }

    /// The tensor with its number of dimensions as part of its type. Nothing is copied.
    ///
    /// # Panics
    /// If the tensor does not have `D` dimensions.
    pub fn into_rank<const D: usize>(self) -> Tensor<D> {
        assert_eq!(self.0.shape().num_dims(), D, "number of dimensions of a parameter");
        Tensor::from_dispatch(self.0)
    }

    /// The tensor as foveal's kernels for all parameters take it.
    pub(super) fn as_dispatch(&self) -> &DispatchTensor {
        &self.0
    }

    /// The tensor as foveal's kernels for all parameters take it.
    pub(super) fn into_dispatch(self) -> DispatchTensor {
        self.0
    }

    /// A result of foveal's kernels for all parameters, which has no autodiff.
    pub(super) fn from_dispatch(tensor: DispatchTensor) -> Self {
        Self(tensor)
    }

    /// The shape of the parameter.
    pub fn shape(&self) -> Shape {
        self.0.shape()
    }

    /// The values in row-major order, `[elements]`. A tensor whose memory is permuted is copied.
    pub fn flat(self) -> Tensor<1> {
        let elements = self.shape().num_elements();
        with_rank!(self, tensor => tensor.reshape([elements]))
    }
}

/// Returns the floating-point tensors of `module` whose paths `keep` accepts, with the running statistics of batch
/// norms. Nothing is read from the device.
pub(crate) fn param_tensors<M: Module>(module: &M, keep: fn(&str) -> bool) -> ParamTensors {
    let mut collect = Collect { path: ParamPath::default(), keep, out: ParamTensors::new() };
    // `valid` first applies pending updates of the running statistics, which a visit would not see.
    module.valid().visit(&mut collect);
    collect.out
}

struct Collect {
    path: ParamPath,
    keep: fn(&str) -> bool,
    out: ParamTensors,
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
            self.out.insert(name, ParamTensor::new(param.val()));
        }
    }
}

/// Runs `update` on the elements of a tensor in host memory, in row-major order. Its memory is copied only if another
/// tensor shares it.
pub(crate) fn with_slice<const D: usize>(tensor: Tensor<D>, update: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let device = tensor.device();
    // The tensor lies in host memory, so no device is waited for.
    let mut data = tensor.into_data();
    update(data.as_mut_slice::<f32>().expect("parameters are f32"));
    Tensor::from_data(data, &device)
}

/// Copies tensors to the host, converted to f32: the values in row-major order with shape `[elements]`, as state files
/// hold them. Waits for the device once, for all tensors together.
pub fn to_host(tensors: &ParamTensors) -> TensorMap {
    let register = |read: Transaction, tensor: &ParamTensor| with_rank!(tensor.clone(), typed => read.register(typed));
    let data = tensors.values().fold(Transaction::default(), register).execute();
    let host = |data: TensorData| {
        let values: Vec<f32> = data.convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
        HostTensor { shape: vec![values.len()], values }
    };
    tensors.keys().cloned().zip(data.into_iter().map(host)).collect()
}

/// Copies the tensors of a state file, row-major values of any shape, to `device` without autodiff. Each gets the shape
/// of the parameter of `module` with its path.
///
/// # Panics
/// If `module` has no parameter with the path of a tensor, or one with another number of elements.
pub fn from_host<M: Module>(tensors: &TensorMap, module: &M, device: &Device) -> ParamTensors {
    let (shapes, device) = (tensor_shapes(module), device.clone().without_autodiff());
    let copy = |(path, tensor): (&String, &HostTensor)| {
        let shape =
            shapes.get(path).unwrap_or_else(|| panic!("expected a parameter {path} in the network, found none"));
        let data = TensorData::new(tensor.values.clone(), shape.clone());
        (path.clone(), ParamTensor::from_data(data, &device))
    };
    tensors.iter().map(copy).collect()
}
