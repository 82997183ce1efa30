//! Export of a checkpoint's weights for other programs: as plain safetensors or as a state dict for torchvision.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::f16;
use foveal_anchors::Rounding;
use foveal_backbone::{BackboneKind, BackboneNorm, P6From};
use foveal_base::write_atomically;
use foveal_heads::HeadNorm;
use foveal_image::ResizeMode;
use foveal_weights::{HostTensor, TensorMap, named_tensors, read_weight_file};
use safetensors::tensor::{Dtype, TensorView};

use crate::torch_file::{TorchTensor, TorchType, torch_file};
use crate::{Checkpoint, DetectorError, TorchvisionArch};

/// Floating-point type in which [`export_weights`] stores the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point, an exact copy of the weights. The default.
    #[default]
    F32,
    /// IEEE 16-bit floating point (`--half`): every weight is rounded, and the file is half as large.
    F16,
}

/// File format of exported weights, chosen by the extension of the path (see [`Container::of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A `.safetensors` file, as read by the `safetensors` libraries of Rust and Python.
    SafeTensors,
    /// PyTorch's zip file (`.pth`, `.pt`), readable with `torch.load(path, weights_only=True)`.
    Torch,
}

impl Container {
    /// Returns the file format for a path by its extension: [`Container::Torch`] for `.pth` and `.pt`,
    /// [`Container::SafeTensors`] for all others.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("pth" | "pt") => Self::Torch,
            _ => Self::SafeTensors,
        }
    }
}

/// Suffix of the step counters that torch's batch norms store. foveal's norms have no such counters.
const COUNTER: &str = ".num_batches_tracked";

/// Writes all weights and running statistics of a checkpoint to `path` under torchvision's parameter names. The file
/// format follows from the extension of `path` (see [`Container::of`]).
///
/// # Errors
/// [`DetectorError::Verify`] if `precision` is [`Precision::F16`] and a weight exceeds the range of 16-bit numbers;
/// [`DetectorError::Write`] if the file cannot be written.
pub fn export_weights(
    checkpoint: &Checkpoint,
    path: &Path,
    precision: Precision,
    counters: Counters,
) -> Result<(), DetectorError> {
    let tensors = named_tensors(&checkpoint.model);
    let mut out: BTreeMap<String, TorchTensor> = BTreeMap::new();
    for (name, tensor) in &tensors {
        let (kind, bytes) = match precision {
            Precision::F32 => (TorchType::F32, tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Precision::F16 => (TorchType::F16, to_half(path, name, tensor)?),
        };
        out.insert(name.clone(), TorchTensor { kind, shape: tensor.shape.clone(), bytes });
    }
    if counters == Counters::Written {
        let frozen = |name: &str| {
            let norm = name.strip_prefix("backbone.body.").unwrap_or(name);
            checkpoint.meta.model.norm == BackboneNorm::FrozenBatch
                && !checkpoint.meta.model.live_norms.iter().any(|live| live == norm)
        };
        for norm in tensors.keys().filter_map(|n| n.strip_suffix(".running_var")).filter(|n| !frozen(n)) {
            let zero = TorchTensor { kind: TorchType::I64, shape: Vec::new(), bytes: vec![0; 8] };
            out.insert(format!("{norm}{COUNTER}"), zero);
        }
    }
    let file = match Container::of(path) {
        Container::Torch => torch_file(&out),
        Container::SafeTensors => safetensors_file(&out),
    };
    Ok(write_atomically(path, &file)?)
}

/// Whether an export contains the integer tensor `num_batches_tracked` of every batch norm. torch's
/// `load_state_dict(..., strict=True)` requires it, except for frozen batch norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counters {
    /// Every batch norm that is not frozen gets the counter, with the value 0.
    Written,
    /// The export contains no counters.
    LeftOut,
}

/// Reads an exported file back and compares all its tensors with the checkpoint's weights, rounded to `precision`.
///
/// # Errors
/// [`DetectorError::Weights`] if the file cannot be read; [`DetectorError::Verify`] if a tensor is missing, is not part
/// of the checkpoint, or has another shape, type or value.
pub fn verify_weights(checkpoint: &Checkpoint, path: &Path, precision: Precision) -> Result<(), DetectorError> {
    let bad = |found: String| DetectorError::Verify { path: path.to_owned(), found };
    let found = read_weight_file(path)?;
    let mut expected = named_tensors(&checkpoint.model);
    if precision == Precision::F16 {
        for value in expected.values_mut().flat_map(|t| &mut t.values) {
            *value = f16::from_f32(*value).to_f32();
        }
    }
    if let Some(other) = found.others.iter().find(|o| !o.name.ends_with(COUNTER)) {
        return Err(bad(format!("tensor {} of type {}, which is not a floating-point type", other.name, other.dtype)));
    }
    let differs = |a: &TensorMap, b: &TensorMap| a.iter().find(|(k, v)| b.get(*k) != Some(*v)).map(|(k, _)| k.clone());
    match differs(&expected, &found.tensors).or_else(|| differs(&found.tensors, &expected)) {
        Some(name) => Err(bad(format!("a file in which tensor {name} is missing or different"))),
        None => Ok(()),
    }
}

/// The tensor's values as little-endian 16-bit numbers.
fn to_half(path: &Path, name: &str, tensor: &HostTensor) -> Result<Vec<u8>, DetectorError> {
    let mut bytes = Vec::with_capacity(tensor.values.len() * 2);
    for value in &tensor.values {
        let half = f16::from_f32(*value);
        if half.is_infinite() {
            let found = format!("{value} in {name}, which exceeds the range of 16-bit numbers; export without --half");
            return Err(DetectorError::Verify { path: path.to_owned(), found });
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok(bytes)
}

fn safetensors_file(tensors: &BTreeMap<String, TorchTensor>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        let kind = match t.kind {
            TorchType::F32 => Dtype::F32,
            TorchType::F16 => Dtype::F16,
            TorchType::I64 => Dtype::I64,
        };
        (name.as_str(), TensorView::new(kind, t.shape.clone(), &t.bytes).expect("the bytes match shape and type"))
    });
    // Hugging Face's libraries expect this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("names are unique and sizes match")
}

/// Returns Python code that builds the same network with torchvision and loads the state dict exported to `path` into
/// it. Comments in the code name the remaining differences.
///
/// # Errors
/// [`DetectorError::NoConstructor`] if torchvision has no constructor for the checkpoint's architecture.
pub fn torchvision_note(checkpoint: &Checkpoint, path: &Path) -> Result<String, DetectorError> {
    let (meta, model) = (&checkpoint.meta, &checkpoint.meta.model);
    let arch = match (model.p6_from, model.head.norm) {
        (P6From::P5, HeadNorm::None) => Some(TorchvisionArch::V1),
        (P6From::C5, HeadNorm::Group) => Some(TorchvisionArch::V2),
        _ => None,
    };
    let plain = arch.map(TorchvisionArch::model);
    let fits = plain.as_ref().is_some_and(|plain| {
        model.backbone == BackboneKind::ResNet50
            && model.base_width == plain.base_width
            && model.fpn_channels == plain.fpn_channels
            && model.head.convs == plain.head.convs
            && (model.head.norm == HeadNorm::None || model.head.groups == plain.head.groups)
            && model.anchors.anchors_per_location() == plain.anchors.anchors_per_location()
            && model.norm != BackboneNorm::Group
            && !model.weights_convention.stride_in_1x1()
            && !model.head.level_scales
    });
    let (Some(arch), true) = (arch, fits) else {
        return Err(DetectorError::NoConstructor {
            found: format!(
                "{} (base width {}), {:?} norms, P6 from {:?}, {} pyramid channels, heads of {} convolutions with {:?} \
                 norm, {} anchors per location{}{}",
                model.backbone.name(),
                model.base_width,
                model.norm,
                model.p6_from,
                model.fpn_channels,
                model.head.convs,
                model.head.norm,
                model.anchors.anchors_per_location(),
                if model.weights_convention.stride_in_1x1() { ", strides on the 1x1 convolutions" } else { "" },
                if model.head.level_scales {
                    ", a learnt factor of the box outputs of each level (model.head.level_scales), for which torchvision \
                     has no parameter"
                } else {
                    ""
                },
            ),
        });
    };
    let mut arguments = vec![
        "weights=None".to_owned(),
        "weights_backbone=None".to_owned(),
        format!("num_classes={}", model.channels(meta.categories.len())),
        format!("min_size={}", meta.preprocess.min_size),
        format!("max_size={}", meta.preprocess.max_size),
        format!("score_thresh={}", meta.post.score_threshold),
        format!("nms_thresh={}", meta.post.nms),
        format!("detections_per_img={}", meta.post.max_detections),
        format!("topk_candidates={}", meta.post.pre_nms),
        format!("image_mean={:?}", meta.preprocess.mean),
        format!("image_std={:?}", meta.preprocess.std),
    ];
    if model.anchors.rounding == Rounding::Torchvision && model.anchors.base_sizes != plain_sizes(arch) {
        arguments.push("anchor_generator=…  # with the checkpoint's anchor sizes".to_owned());
    }
    let load = match Container::of(path) {
        Container::Torch => format!("torch.load({path:?}, weights_only=True)"),
        Container::SafeTensors => format!("safetensors.torch.load_file({path:?})"),
    };
    let mut note = format!(
        "model = torchvision.models.detection.{}(\n    {})\nmodel.load_state_dict({load}, strict=True)\n",
        arch.name(),
        arguments.join(", ")
    );
    if arch == TorchvisionArch::V1 && matches!(model.norm, BackboneNorm::Batch | BackboneNorm::FrozenStatistics) {
        note += "# Without weights_backbone, torchvision builds BatchNorm2d, which this checkpoint needs.\n";
    }
    if model.norm_eps != foveal_nn::NORM_EPS {
        note += &format!(
            "for m in model.backbone.body.modules():\n    if hasattr(m, \"running_var\"): m.eps = {:?}\n",
            model.norm_eps
        );
    }
    match &model.class_channels {
        Some(channels) => {
            let unused: Vec<String> =
                (0..).zip(channels.classes()).filter(|c| c.1.is_none()).map(|c: (usize, _)| c.0.to_string()).collect();
            note +=
                &format!("# These labels stand for no category; foveal never predicts them: {}.\n", unused.join(", "));
        }
        None => note += "# Label k is category k of the checkpoint, counted from 0. There is no background label.\n",
    }
    if model.anchors.rounding == Rounding::Exact {
        note += "# The network was trained with unrounded anchors; torchvision's differ by up to half a pixel.\n";
    }
    if meta.preprocess.resize != ResizeMode::Torchvision {
        note += "# The network was trained on antialiased images; torchvision's transform does not antialias.\n";
    }
    Ok(note)
}

fn plain_sizes(arch: TorchvisionArch) -> Vec<f32> {
    arch.model().anchors.base_sizes
}
