//! Conversion between a module's parameters and tensors by name.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, Transaction};

use crate::{HostTensor, TensorMap};

/// Report of [`load_tensors`]: which tensors were loaded and which were not, by full parameter name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Names of the module's tensors that were replaced by those of the source.
    pub loaded: Vec<String>,
    /// Names of the module's tensors that are not in the source. Their values did not change.
    pub missing: Vec<String>,
    /// Names of the source's tensors that are not in the module.
    pub unused: Vec<String>,
    /// Tensors that are in the module and in the source with different shapes. Their values did not change.
    pub mismatched: Vec<Mismatch>,
}

/// Tensor whose shape in the source differs from its shape in the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Full parameter name of the tensor.
    pub name: String,
    /// Shape of the tensor in the module.
    pub expected: Vec<usize>,
    /// Shape of the tensor in the source.
    pub found: Vec<usize>,
}

/// Position of a traversal in a module, from which the full parameter name is built. Used by implementations of Burn's
/// `ModuleVisitor` and `ModuleMapper`.
#[derive(Debug, Default)]
pub struct ParamPath(Vec<Option<String>>);

/// Prefix of the container name that Burn passes for the variants of an enum.
const ENUM: &str = "Enum:";

impl ParamPath {
    /// Enters a field, list element or enum variant. Takes the arguments of Burn's `enter_module`.
    ///
    /// A field `index0` becomes the name part `0`, since names in torch can be numbers but Rust fields cannot. Enum
    /// variants add no part to the name.
    pub fn enter(&mut self, name: &str, container: &str) {
        let name = name.strip_prefix("index").unwrap_or(name);
        self.0.push((!container.starts_with(ENUM)).then(|| name.to_owned()));
    }

    /// Leaves the field, list element or enum variant that was entered last.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// Returns the full name at the current position, such as `backbone.body.layer1.0.conv1.weight`.
    pub fn name(&self) -> String {
        self.0.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// The tensors of a module, read from the device together.
struct Collect {
    path: ParamPath,
    shapes: Vec<(String, Vec<usize>)>,
    read: Transaction,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        self.shapes.push((self.path.name(), tensor.dims().to_vec()));
        self.read = std::mem::take(&mut self.read).register(tensor);
    }
}

/// Reads all floating-point parameters and running statistics of a module, by torchvision's parameter names. Waits for
/// the device once, for all tensors together.
pub fn named_tensors<M: Module>(module: &M) -> TensorMap {
    let mut collect = Collect { path: ParamPath::default(), shapes: Vec::new(), read: Transaction::default() };
    // `valid` brings the running statistics up to date first; a visitor does not see pending updates.
    module.valid().visit(&mut collect);
    let values = |data: TensorData| data.convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
    let read = collect.shapes.into_iter().zip(collect.read.execute());
    read.map(|((name, shape), data)| (name, HostTensor { shape, values: values(data) })).collect()
}

struct Shapes {
    path: ParamPath,
    out: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.out.insert(self.path.name(), param.dims().to_vec());
    }
}

/// Returns the shapes of all floating-point parameters and running statistics of a module, by torchvision's parameter
/// names. Nothing is read from the device.
pub fn tensor_shapes<M: Module>(module: &M) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = Shapes { path: ParamPath::default(), out: BTreeMap::new() };
    module.visit(&mut shapes);
    shapes.out
}

struct Apply<'a> {
    path: ParamPath,
    source: &'a TensorMap,
    report: LoadReport,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let expected = param.dims().to_vec();
        let Some(found) = self.source.get(&name) else {
            self.report.missing.push(name);
            return param;
        };
        if found.shape != expected {
            self.report.mismatched.push(Mismatch { name, expected, found: found.shape.clone() });
            return param;
        }
        self.report.loaded.push(name);
        let data = TensorData::new(found.values.clone(), found.shape.clone());
        param.map(|old| Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad()))
    }
}

/// Replaces the module's parameters and running statistics by the tensors of `source` whose name and shape agree.
/// Returns the module and a report of loaded, missing, unused and mismatched tensors. Trained parameters stay trained,
/// frozen ones stay frozen.
pub fn load_tensors<M: Module>(module: M, source: &TensorMap) -> (M, LoadReport) {
    let mut apply = Apply { path: ParamPath::default(), source, report: LoadReport::default() };
    let module = module.map(&mut apply);
    let mut report = apply.report;
    let used: BTreeSet<&String> = report.loaded.iter().chain(report.mismatched.iter().map(|m| &m.name)).collect();
    report.unused = source.keys().filter(|k| !used.contains(k)).cloned().collect();
    (module, report)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Layer {
        weight: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    struct Pair {
        index0: Layer,
        layers: Vec<Layer>,
    }

    #[derive(Module, Debug)]
    #[allow(clippy::large_enum_variant, reason = "a test")]
    enum Body {
        One(Layer),
        Two(Pair),
    }

    #[derive(Module, Debug)]
    struct Net {
        body: Body,
        bias: Param<Tensor<1>>,
    }

    fn param() -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::zeros([1], &Device::flex()))
    }

    fn layer() -> Layer {
        Layer { weight: param() }
    }

    #[test]
    fn the_variant_of_an_enum_is_no_part_of_a_name() {
        let one = Net { body: Body::One(layer()), bias: param() };
        let two = Net { body: Body::Two(Pair { index0: layer(), layers: vec![layer(), layer()] }), bias: param() };
        for (net, expected) in [
            (one, vec!["bias", "body.weight"]),
            (two, vec!["bias", "body.0.weight", "body.layers.0.weight", "body.layers.1.weight"]),
        ] {
            let tensors = named_tensors(&net);
            assert_eq!(tensors.keys().collect::<Vec<_>>(), expected);
            let (_, report) = load_tensors(net, &tensors);
            assert_eq!(report.loaded.len(), expected.len());
            assert!(report.missing.is_empty() && report.unused.is_empty(), "{report:?}");
        }
        let (_, report) = load_tensors(Body::One(layer()), &TensorMap::new());
        assert_eq!(report.missing, ["weight"]);
    }

    #[derive(Module, Debug)]
    struct Matrix {
        weight: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
    }

    #[test]
    fn tensors_in_permuted_memory_are_read_in_row_major_order() {
        let device = Device::flex();
        let columns = Tensor::<2>::from_floats([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], &device);
        let bias = Tensor::from_floats([7.0], &device);
        let matrix = Matrix { weight: Param::from_tensor(columns.transpose()), bias: Param::from_tensor(bias) };
        let tensors = named_tensors(&matrix);
        let tensor = |shape: &[usize], values: &[f32]| HostTensor { shape: shape.to_vec(), values: values.to_vec() };
        assert_eq!(tensors["weight"], tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(tensors["bias"], tensor(&[1], &[7.0]));
        assert_eq!(tensors.len(), 2);
    }
}
