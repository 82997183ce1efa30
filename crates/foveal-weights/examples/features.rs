//! Computes the features of a ResNet weight file: `features WEIGHTS NETWORK CONVENTION IN OUT`.
//!
//! IN is a safetensors file with a tensor `images [batch, 3, height, width]`, normalised as torchvision's images are.
//! The feature maps `c3`, `c4` and `c5` are written to OUT. If IN has a tensor `probe` of the shape of C5, OUT also
//! gets the gradients of the sum of C5 times `probe` with respect to the weights of all convolutions, as `grad.<name>`.
//! `scripts/reference/check_backbones` compares the results with torch's.

// A tool for scripts, which read what it prints.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_nn::{Eager, Init};
use foveal_weights::{BackboneFile, ParamPath, WeightsConvention, load_backbone, read_weights};
use safetensors::{Dtype, tensor::TensorView};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, network, convention, input, output] = arguments.as_slice() else {
        return Err("usage: features WEIGHTS NETWORK CONVENTION IN OUT".into());
    };
    let quoted = |text: &str| serde_json::Value::String(text.to_owned());
    let kind: BackboneKind = serde_json::from_value(quoted(network))?;
    let convention: WeightsConvention = serde_json::from_value(quoted(convention))?;
    let device = Device::flex().autodiff();
    let mut tensors = read_weights(Path::new(input))?;
    let mut input = |name: &str| -> Result<Option<Tensor<4>>, Box<dyn Error>> {
        let Some(tensor) = tensors.remove(name) else { return Ok(None) };
        let shape: [usize; 4] = tensor.shape.try_into().map_err(|_| format!("{name}: expected four axes"))?;
        Ok(Some(Tensor::from_data(TensorData::new(tensor.values, shape), &device)))
    };
    let images = input("images")?.ok_or("no tensor `images`")?;
    let probe = input("probe")?;

    let norm = BackboneNorm::FrozenBatch;
    let body = Body::new(kind, 64, norm, &mut Init::zeros(), &device);
    let body = if convention.stride_in_1x1() { body.with_stride_in_1x1() } else { body };
    let file = BackboneFile { path: Path::new(weights), kind, norm, convention, input_std: [0.229, 0.224, 0.225] };
    let loaded = load_backbone(body, &file)?;
    if let Some(name) = loaded.report.missing.first() {
        return Err(format!("{weights}: no {name}").into());
    }
    let maps = loaded.body.forward(&mut Eager, images);
    let mut out = vec![Output::of("c3", &maps.c3)?, Output::of("c4", &maps.c4)?, Output::of("c5", &maps.c5)?];
    if let Some(probe) = probe {
        let gradients = (maps.c5 * probe).sum().backward();
        let mut collect = Collect { path: ParamPath::default(), gradients: &gradients, out: &mut out };
        loaded.body.visit(&mut collect);
    }
    let views = out.iter().map(|o| Ok((o.name.as_str(), TensorView::new(Dtype::F32, o.shape.clone(), &o.bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    std::fs::write(output, safetensors::serialize(views, None)?)?;
    Ok(())
}

/// A tensor of the output file.
struct Output {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Output {
    fn of<const D: usize>(name: &str, tensor: &Tensor<D>) -> Result<Self, Box<dyn Error>> {
        let values: Vec<f32> = tensor.clone().into_data().try_to_vec()?;
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Self { name: name.to_owned(), shape: tensor.dims().to_vec(), bytes })
    }
}

/// Collects the gradients of all convolutions.
struct Collect<'a> {
    path: ParamPath,
    gradients: &'a Gradients,
    out: &'a mut Vec<Output>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 4
            && let Some(gradient) = param.val().grad(self.gradients)
        {
            let output = Output::of(&format!("grad.{}", self.path.name()), &gradient);
            self.out.push(output.expect("gradients are f32"));
        }
    }
}
