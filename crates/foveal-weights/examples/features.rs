//! Computes the features of a ResNet weight file: `features WEIGHTS NETWORK CONVENTION IN OUT`.
//!
//! IN is a safetensors file with a tensor `images [batch, 3, height, width]`, normalised as torchvision's images are.
//! The feature maps `c3`, `c4` and `c5` are written to OUT. `scripts/reference/check_backbones` compares them with
//! torch's.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use burn::tensor::{Device, Tensor, TensorData};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_nn::{Eager, Init};
use foveal_weights::{BackboneFile, WeightsConvention, load_backbone, read_weights};
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
    let device = Device::flex();
    let images = read_weights(Path::new(input))?.remove("images").ok_or("no tensor `images`")?;
    let shape: [usize; 4] = images.shape.try_into().map_err(|_| "images of four axes")?;
    let images = Tensor::<4>::from_data(TensorData::new(images.values, shape), &device);

    let norm = BackboneNorm::FrozenBatch;
    let net = Body::new(kind, 64, norm, &mut Init::seeded(0), &device);
    let net = if convention.stride_in_1x1() { net.with_stride_in_1x1() } else { net };
    let file = BackboneFile { path: Path::new(weights), kind, norm, convention, input_std: [0.229, 0.224, 0.225] };
    let loaded = load_backbone(net, &file)?;
    if let Some(name) = loaded.report.missing.first() {
        return Err(format!("{weights}: no {name}").into());
    }
    let maps = loaded.body.forward(&mut Eager, images);
    let mut out = Vec::new();
    for (name, map) in [("c3", maps.c3), ("c4", maps.c4), ("c5", maps.c5)] {
        let shape = map.dims().to_vec();
        let bytes: Vec<u8> = map.into_data().try_to_vec::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect();
        out.push((name, shape, bytes));
    }
    let views = out.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    std::fs::write(output, safetensors::serialize(views, None)?)?;
    Ok(())
}
