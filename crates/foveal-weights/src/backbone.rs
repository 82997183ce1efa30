//! A classification network's file into a backbone.

use std::path::Path;

use crate::convention::{self, WeightsConvention};
use crate::layout::{NoNetwork, residual_network};
use crate::plain::{self, Refusal, Wanted};
use crate::{LoadReport, WeightsError, load_tensors, read_weight_file, tensor_shapes};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};

/// A backbone with a file's weights in it.
#[derive(Debug)]
pub struct LoadedBackbone {
    /// The network.
    pub body: Body,
    /// What became of each tensor.
    pub report: LoadReport,
    /// Norms (torchvision's names) whose statistics the file did not supply; they must not be frozen.
    pub norms_without_statistics: Vec<String>,
}

/// A weight file, and the network that it is to be of.
#[derive(Clone, Copy, Debug)]
pub struct BackboneFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// The network.
    pub kind: BackboneKind,
    /// Its norms.
    pub norm: BackboneNorm,
    /// Its strides and its input.
    pub convention: WeightsConvention,
    /// By what the network's input, RGB in 0..1, is divided.
    pub input_std: [f32; 3],
}

/// Loads a ResNet, whole or in part, from `.pth` or `.safetensors` with the names of torchvision (and timm's plain
/// networks) or Detectron2, whatever prefix wrappers and detectors put before them.
///
/// # Errors
/// As [`read_weight_file`]; [`WeightsError::NoMatch`] when there is no ResNet in the file, [`WeightsError::Refused`] when
/// there is another than the wanted one, or one whose input and strides nobody said.
pub fn load_backbone(body: Body, wanted: &BackboneFile<'_>) -> Result<LoadedBackbone, WeightsError> {
    let BackboneFile { path, kind, norm, convention, input_std } = *wanted;
    let refused = |Refusal { found, advice }| {
        let network = kind.name().to_owned();
        WeightsError::Refused { path: path.to_owned(), network, found, advice }
    };
    let file = read_weight_file(path)?;
    let (arch, names): (_, Vec<String>) = (file.arch.clone(), file.tensors.keys().cloned().collect());
    let mut found = residual_network(file).map_err(|none| match none {
        NoNetwork::None => {
            WeightsError::NoMatch { path: path.to_owned(), network: kind.name().to_owned(), found: names }
        }
        NoNetwork::Several(names) => refused(Refusal {
            found: format!("several networks ({}.…)", names.join(".…, ")),
            advice: "save the wanted one alone".to_owned(),
        }),
    })?;
    plain::check(&found, &Wanted { kind, norm, shapes: &tensor_shapes(&body) }, arch.as_deref()).map_err(refused)?;
    convention::check(&found, kind, convention).map_err(refused)?;
    convention::rewrite(&mut found.tensors, convention, input_std);
    let (body, mut report) = load_tensors(body, &found.tensors);
    if let Some(m) = report.mismatched.first() {
        let found = format!("{} of shape {:?} in place of {:?}", m.name, m.found, m.expected);
        let found = match report.mismatched.len() - 1 {
            0 => found,
            more => format!("{found}, and {more} more of other shapes"),
        };
        return Err(refused(Refusal { found, advice: "take the weights of the plain network of that width".into() }));
    }
    if let Some(name) = report.unused.first() {
        let advice = "take the weights of the plain network".to_owned();
        return Err(refused(Refusal { found: format!("a tensor {name}, which it has not"), advice }));
    }
    report.unused = found.rest;
    let norms_without_statistics =
        report.missing.iter().filter_map(|n| n.strip_suffix(".running_var")).map(str::to_owned).collect();
    Ok(LoadedBackbone { body, report, norms_without_statistics })
}
