//! Loads the weight file of a classification network into a backbone.

use std::path::Path;

use crate::convention::{self, WeightsConvention};
use crate::layout::{NoNetwork, residual_network};
use crate::plain::{self, Refusal, Wanted};
use crate::{LoadReport, WeightsError, load_tensors, read_weight_file, tensor_shapes};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};

/// Backbone with the weights of a file, and a report of what was loaded.
#[derive(Debug)]
pub struct LoadedBackbone {
    /// Backbone with the loaded weights.
    pub body: Body,
    /// Loaded, missing and unused tensors, by torchvision's names.
    pub report: LoadReport,
    /// Names (as in torchvision: `layer4.2.bn2`) of the norms whose running statistics are not in the file. They must
    /// not be frozen.
    pub norms_without_statistics: Vec<String>,
}

/// Weight file and the network whose weights it should contain.
#[derive(Clone, Copy, Debug)]
pub struct BackboneFile<'a> {
    /// Path of the weight file.
    pub path: &'a Path,
    /// Architecture of the backbone.
    pub kind: BackboneKind,
    /// Kind of the backbone's normalisation layers.
    pub norm: BackboneNorm,
    /// Position of the strides and input of the network that the file was trained with.
    pub convention: WeightsConvention,
    /// Standard deviation of each channel (RGB, for values in 0..1) by which the input images are divided. It is used
    /// to convert the stem of files in the MSRA convention.
    pub input_std: [f32; 3],
}

/// Loads the weights of a ResNet from a `.pth` or `.safetensors` file into `body`. The file may contain the whole
/// network or a part of it. Tensors may have the names of torchvision, timm's plain ResNets or Detectron2, with any
/// prefix (`module.`, `backbone.body.`).
///
/// # Errors
/// [`WeightsError::Io`], [`WeightsError::Format`] or [`WeightsError::NonFinite`] if the file cannot be read;
/// [`WeightsError::NoMatch`] if it contains no ResNet; [`WeightsError::Refused`] if it contains another network, or if
/// its input convention is ambiguous and `convention` is [`WeightsConvention::Auto`].
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
            advice: "save only the wanted network to a new file".to_owned(),
        }),
    })?;
    plain::check(&found, &Wanted { kind, norm, shapes: &tensor_shapes(&body) }, arch.as_deref()).map_err(refused)?;
    convention::check(&found, kind, convention).map_err(refused)?;
    convention::rewrite(&mut found.tensors, convention, input_std);
    let (body, mut report) = load_tensors(body, &found.tensors);
    if let Some(m) = report.mismatched.first() {
        let found = format!("{} of shape {:?} instead of {:?}", m.name, m.found, m.expected);
        let found = match report.mismatched.len() - 1 {
            0 => found,
            more => format!("{found}, and {more} more tensors of other shapes"),
        };
        let advice = format!("use weights with the tensor shapes of torchvision's {}", kind.name());
        return Err(refused(Refusal { found, advice }));
    }
    if let Some(name) = report.unused.first() {
        let advice = "use the weights of the plain network".to_owned();
        return Err(refused(Refusal { found: format!("a tensor {name}, which that network does not have"), advice }));
    }
    report.unused = found.rest;
    let norms_without_statistics =
        report.missing.iter().filter_map(|n| n.strip_suffix(".running_var")).map(str::to_owned).collect();
    Ok(LoadedBackbone { body, report, norms_without_statistics })
}
