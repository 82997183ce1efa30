//! Compares features and gradients of ResNeXt and wide ResNet with torchvision's, with frozen norms and with norms of
//! fixed statistics. Golden values:
//! scripts/reference/relatives.py.

mod formula;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_nn::{Eager, Init};
use foveal_weights::{ParamPath, load_tensors, named_tensors};
use serde_json::Value;

const WIDTH: usize = 16;
const STEP: usize = 37;

fn golden(network: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("fixtures/relatives.json")).unwrap();
    all[network].clone()
}

/// The largest difference from the golden values, which are every `step`-th value, divided by the largest of these.
fn difference<const D: usize>(found: Tensor<D>, golden: &Value, step: usize) -> f32 {
    let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
    let golden: Vec<f32> = golden.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    assert_eq!(found.len().div_ceil(step), golden.len());
    let largest = golden.iter().fold(0f32, |most, v| most.max(v.abs()));
    found.iter().step_by(step).zip(&golden).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

struct Gradient<'a> {
    path: ParamPath,
    wanted: &'a str,
    gradients: &'a Gradients,
    difference: Option<f32>,
    golden: &'a Value,
    step: usize,
}

impl ModuleVisitor for Gradient<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.name() == self.wanted {
            self.difference = param.val().grad(self.gradients).map(|grad| difference(grad, self.golden, self.step));
        }
    }
}

/// Checks features within 1e-4 and gradients within 1e-3 of the largest value. The sums are in f32 and in other orders,
/// through up to 101 layers.
///
/// Frozen norms and norms with fixed statistics compute the same. The latter also have gradients of scale and shift.
fn agrees(kind: BackboneKind) {
    agrees_with(kind, BackboneNorm::FrozenBatch);
    agrees_with(kind, BackboneNorm::FrozenStatistics);
}

fn agrees_with(kind: BackboneKind, norm: BackboneNorm) {
    let device = Device::flex().autodiff();
    let body = Body::new(kind, WIDTH, norm, &mut Init::zeros(), &device);
    let mut tensors = named_tensors(&body);
    formula::fill(&mut tensors);
    let (body, report) = load_tensors(body, &tensors);
    assert!(report.missing.is_empty() && report.mismatched.is_empty());

    let (golden, what) = (golden(kind.name()), format!("{}, {}", kind.name(), norm.name()));
    let maps = body.forward(&mut Eager, formula::image(&device));
    for (name, map) in [("c3", &maps.c3), ("c4", &maps.c4), ("c5", &maps.c5)] {
        let found = difference(map.clone(), &golden[name], STEP);
        assert!(found <= 1e-4, "{what}: {name} within {found:e}");
    }
    let shape = maps.c5.dims();
    let wave: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (0.37 * i as f64).sin() as f32).collect();
    let gradients = (maps.c5 * Tensor::from_data(TensorData::new(wave, shape), &device)).sum().backward();
    let gradient = |wanted: &str, golden: &Value, step: usize| {
        let path = ParamPath::default();
        let mut find = Gradient { path, wanted, gradients: &gradients, difference: None, golden, step };
        body.visit(&mut find);
        find.difference
    };
    let of_convolutions = golden["gradients"].as_object().unwrap().iter().map(|gradient| (gradient, STEP));
    let of_norms = golden["norm_gradients"].as_object().unwrap().iter().map(|gradient| (gradient, 1));
    for ((wanted, golden), step) in of_convolutions.chain(of_norms) {
        let found = gradient(wanted, golden, step);
        if step == 1 && norm == BackboneNorm::FrozenBatch {
            assert_eq!(found, None, "{what}: {wanted} is not trained");
            continue;
        }
        let found = found.unwrap_or_else(|| panic!("{what}: {wanted} has no gradient"));
        assert!(found <= 1e-3, "{what}: gradient of {wanted} within {found:e}");
    }
}

#[test]
fn resnext50_is_torchvisions() {
    agrees(BackboneKind::ResNeXt50_32x4d);
}

#[test]
fn resnext101_is_torchvisions() {
    agrees(BackboneKind::ResNeXt101_64x4d);
}

#[test]
fn wide_resnet50_is_torchvisions() {
    agrees(BackboneKind::WideResNet50_2);
}
