//! Between a module's parameters and tensors by name.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::{HostTensor, TensorMap};

/// What became of each tensor in a load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Taken from the source.
    pub loaded: Vec<String>,
    /// In the module, not in the source: kept as they were.
    pub missing: Vec<String>,
    /// In the source, not in the module.
    pub unused: Vec<String>,
    /// In both, with different shapes: kept as they were.
    pub mismatched: Vec<Mismatch>,
}

/// A tensor whose shape does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Its name.
    pub name: String,
    /// The module's shape.
    pub expected: Vec<usize>,
    /// The source's shape.
    pub found: Vec<usize>,
}

/// Where in a module a traversal is, in torchvision's names.
#[derive(Debug, Default)]
pub struct ParamPath(Vec<Option<String>>);

/// How Burn names the containers of an enum's variants.
const ENUM: &str = "Enum:";

impl ParamPath {
    /// Enters a field, an element or a variant, with the arguments of Burn's `enter_module`.
    ///
    /// `index0` stands for torch's `0`, since a Rust field cannot be a number. An enum's variant has no part in names.
    pub fn enter(&mut self, name: &str, container: &str) {
        let name = name.strip_prefix("index").unwrap_or(name);
        self.0.push((!container.starts_with(ENUM)).then(|| name.to_owned()));
    }

    /// Leaves what was entered last.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The whole name: `backbone.body.layer1.0.conv1.weight`.
    pub fn name(&self) -> String {
        self.0.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

struct Collect {
    path: ParamPath,
    out: TensorMap,
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
        let values =
            tensor.clone().into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
        self.out.insert(self.path.name(), HostTensor { shape: tensor.dims().to_vec(), values });
    }
}

/// All floating-point parameters and statistics of a module under torchvision's names.
/// One device read for each tensor.
pub fn named_tensors<M: Module>(module: &M) -> TensorMap {
    let mut collect = Collect { path: ParamPath::default(), out: TensorMap::new() };
    // `valid` brings running statistics up to date first: an update in flight is not visited.
    module.valid().visit(&mut collect);
    collect.out
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

/// Names and shapes of all floating-point parameters and statistics of a module. No device is read.
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

/// Puts tensors into the module where name and shape fit; which parameters are trained does not change.
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
}
