//! Properties of a residual network that tensor names and shapes do not reveal: the position of its strides and its
//! input.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, ResidualNetwork};
use crate::plain::Refusal;
use crate::{HostTensor, TensorMap};
use foveal_backbone::{BackboneKind, BlockKind};

/// Position of the strides in the residual network and the input that its weight file was trained on
/// (`model.weights_convention`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightsConvention {
    /// torchvision's convention; weight files that could have been trained with the MSRA convention are refused. The
    /// default.
    #[default]
    Auto,
    /// torchvision's convention: strides on the 3x3 convolutions of bottlenecks; the input is RGB in 0..1, normalised
    /// with ImageNet's mean and standard deviation.
    Torchvision,
    /// Convention of MSRA's ResNets, the default of Detectron2: strides on the first 1x1 convolutions of bottlenecks;
    /// the input is BGR in 0..255 minus ImageNet's mean. While the file is read, the stem is converted to
    /// torchvision's input.
    Msra,
}

impl WeightsConvention {
    /// Whether bottlenecks have their stride on the first 1x1 convolution (Detectron2's `STRIDE_IN_1X1`) instead of the
    /// 3x3 convolution.
    pub fn stride_in_1x1(self) -> bool {
        self == Self::Msra
    }
}

/// Ratio of MSRA's input range (0..255) to torchvision's (0..1).
const BYTE: f32 = 255.0;
/// Tolerance within which a variance counts as the constant 1 of a folded norm: Detectron2 writes 1 - 1e-5.
const FOLDED: f32 = 1e-4;
const STEM: &str = "conv1.weight";

/// Refuses files whose convention is ambiguous, unless it is configured.
pub(crate) fn check(body: &ResidualNetwork, kind: BackboneKind, convention: WeightsConvention) -> Result<(), Refusal> {
    if convention != WeightsConvention::Auto {
        return Ok(());
    }
    let advice = "set model.weights_convention = \"msra\" if the network was trained on BGR images in 0..255 with \
                  STRIDE_IN_1X1 (Detectron2's default), or \"torchvision\" if it was trained on RGB images normalised \
                  with mean and standard deviation and without STRIDE_IN_1X1";
    if body.layout == Layout::Detectron2 {
        let found = "tensor names of Detectron2, which reveal neither the input format nor the position of the strides"
            .to_owned();
        return Err(Refusal { found, advice: advice.to_owned() });
    }
    if kind.spec().block == BlockKind::Bottleneck && folded(&body.tensors) {
        let found = "norms with constant statistics (mean 0, variance 1), as in converted MSRA weights, which reveal \
                     neither the input format nor the position of the strides"
            .to_owned();
        return Err(Refusal { found, advice: advice.to_owned() });
    }
    Ok(())
}

/// Whether the statistics of all norms are constants because they were folded into scale and shift, as in Caffe's
/// weights.
fn folded(tensors: &TensorMap) -> bool {
    let all = |suffix: &str, ok: &dyn Fn(f32) -> bool| {
        let mut found = tensors.iter().filter(|(name, _)| name.ends_with(suffix)).peekable();
        found.peek().is_some() && found.all(|(_, t)| t.values.iter().all(|v| ok(*v)))
    };
    let scaled = |(name, t): (&String, &HostTensor)| {
        name.contains("bn") && name.ends_with(".weight") && t.values.iter().any(|v| *v != 0.0 && *v != 1.0)
    };
    all(".running_mean", &|v| v == 0.0)
        && all(".running_var", &|v| (v - 1.0).abs() <= FOLDED)
        && tensors.iter().any(scaled)
}

/// Converts the stem of an MSRA file so that it gives the same features for torchvision's input.
///
/// MSRA's input is `255 rgb - 255 mean` in the order BGR (Detectron2's `PIXEL_MEAN` is 255 times ImageNet's mean),
/// which is torchvision's `(rgb - mean) / std` times `255 std`: one factor per channel. The zeros of the padding agree
/// too.
pub(crate) fn rewrite(tensors: &mut TensorMap, convention: WeightsConvention, std: [f32; 3]) {
    let Some(stem) = tensors.get_mut(STEM).filter(|_| convention == WeightsConvention::Msra) else { return };
    let [_, channels @ 3, height, width] = stem.shape[..] else { return };
    let area = height * width;
    for filter in stem.values.chunks_exact_mut(channels * area) {
        // BGR to RGB: the two outer channels change places.
        for i in 0..area {
            filter.swap(i, 2 * area + i);
        }
        for (plane, std) in filter.chunks_exact_mut(area).zip(std) {
            for value in plane {
                *value *= BYTE * std;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(tensors: &[(&str, Vec<usize>, &[f32])]) -> TensorMap {
        tensors
            .iter()
            .map(|(name, shape, values)| {
                ((*name).to_owned(), HostTensor { shape: shape.clone(), values: values.to_vec() })
            })
            .collect()
    }

    fn outcome(layout: Layout, tensors: &TensorMap, kind: BackboneKind, convention: WeightsConvention) -> String {
        let body = ResidualNetwork { layout, tensors: tensors.clone(), others: Vec::new(), rest: Vec::new() };
        check(&body, kind, convention).err().map(|r| format!("{}: {}", r.found, r.advice)).unwrap_or_default()
    }

    #[test]
    fn what_names_leave_open_must_be_said() {
        let own = map(&[("bn1.weight", vec![1], &[0.5]), ("bn1.running_mean", vec![1], &[0.1])]);
        let kind = BackboneKind::ResNet50;
        let text = outcome(Layout::Detectron2, &own, kind, WeightsConvention::Auto);
        assert!(text.contains("Detectron2") && text.contains("\"msra\"") && text.contains("STRIDE_IN_1X1"), "{text}");
        for said in [WeightsConvention::Msra, WeightsConvention::Torchvision] {
            assert_eq!(outcome(Layout::Detectron2, &own, kind, said), "");
        }
        assert_eq!(outcome(Layout::Torchvision, &own, kind, WeightsConvention::Auto), "");
    }

    #[test]
    fn folded_statistics_under_torchvisions_names_are_caffes() {
        let norm = |scale: f32, mean: f32| {
            map(&[
                ("bn1.weight", vec![1], &[scale]),
                ("bn1.running_mean", vec![1], &[mean]),
                ("bn1.running_var", vec![1], &[1.0 - 1e-5]),
            ])
        };
        let auto = |tensors: &TensorMap, kind| outcome(Layout::Torchvision, tensors, kind, WeightsConvention::Auto);
        assert!(auto(&norm(0.3, 0.0), BackboneKind::ResNet50).contains("mean 0, variance 1"));
        // Real statistics; an untrained network; basic blocks, whose stride has only one possible position.
        assert_eq!(auto(&norm(0.3, 0.1), BackboneKind::ResNet50), "");
        assert_eq!(auto(&norm(1.0, 0.0), BackboneKind::ResNet50), "");
        assert_eq!(auto(&norm(0.3, 0.0), BackboneKind::ResNet18), "");
    }

    #[test]
    fn the_stem_is_rewritten_channel_by_channel() {
        let mut tensors = map(&[(STEM, vec![1, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
        let whole = tensors.clone();
        rewrite(&mut tensors, WeightsConvention::Torchvision, [0.5, 0.25, 1.0]);
        assert_eq!(tensors, whole);
        rewrite(&mut tensors, WeightsConvention::Msra, [0.5, 0.25, 1.0]);
        assert_eq!(tensors[STEM].values, [5.0 * 127.5, 6.0 * 127.5, 3.0 * 63.75, 4.0 * 63.75, 255.0, 510.0]);
    }
}
