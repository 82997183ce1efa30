//! Between a module's parameters and tensors by name.

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

/// Where in the module a traversal is.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        // `index0` stands for torch's `0`: a Rust field cannot be a number.
        self.0.push(name.strip_prefix("index").unwrap_or(name).to_owned());
    }

    fn name(&self) -> String {
        self.0.join(".")
    }
}

struct Collect {
    path: Path,
    out: TensorMap,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
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
    let mut collect = Collect { path: Path::default(), out: TensorMap::new() };
    // `valid` brings running statistics up to date first: an update in flight is not visited.
    module.valid().visit(&mut collect);
    collect.out
}

struct Apply<'a> {
    path: Path,
    source: &'a TensorMap,
    report: LoadReport,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
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
    let mut apply = Apply { path: Path::default(), source, report: LoadReport::default() };
    let module = module.map(&mut apply);
    let mut report = apply.report;
    let used: std::collections::BTreeSet<&String> =
        report.loaded.iter().chain(report.mismatched.iter().map(|m| &m.name)).collect();
    report.unused = source.keys().filter(|k| !used.contains(k)).cloned().collect();
    (module, report)
}
