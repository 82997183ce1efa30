//! What no name tells of a residual network: where its strides are, and what its input is.

use serde::{Deserialize, Serialize};

use crate::layout::{Layout, ResidualNetwork};
use crate::plain::Refusal;
use crate::{HostTensor, TensorMap};
use foveal_backbone::{BackboneKind, BlockKind};

/// The convention of the residual network and its weight file (`model.weights_convention`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightsConvention {
    /// torchvision's, and files whose names leave it open are refused.
    #[default]
    Auto,
    /// Stride on a bottleneck's 3x3; RGB in 0..1, normalised by ImageNet's mean and deviation.
    Torchvision,
    /// MSRA's, Detectron2's default: stride on a bottleneck's first 1x1; BGR in 0..255, less ImageNet's mean. A file's
    /// stem is rewritten for torchvision's input while it is read.
    Msra,
}

impl WeightsConvention {
    /// Whether bottlenecks have their stride on the first 1x1 (Detectron2's `STRIDE_IN_1X1`).
    pub fn stride_in_1x1(self) -> bool {
        self == Self::Msra
    }
}

/// The largest value of a byte: MSRA's input is not divided by it.
const BYTE: f32 = 255.0;
/// How far a variance may be from 1 that is no statistic: Detectron2 writes 1 - 1e-5.
const FOLDED: f32 = 1e-4;
const STEM: &str = "conv1.weight";

/// Refuses files whose convention is neither said nor known.
pub(crate) fn check(body: &ResidualNetwork, kind: BackboneKind, convention: WeightsConvention) -> Result<(), Refusal> {
    if convention != WeightsConvention::Auto {
        return Ok(());
    }
    let advice = "set model.weights_convention = \"msra\" if it was trained on BGR images of 0..255 with \
                  STRIDE_IN_1X1 (Detectron2's default), or \"torchvision\" if on RGB with mean and deviation and \
                  without STRIDE_IN_1X1";
    if body.layout == Layout::Detectron2 {
        let found = "Detectron2's names, which do not tell input and strides".to_owned();
        return Err(Refusal { found, advice: advice.to_owned() });
    }
    if kind.spec().block == BlockKind::Bottleneck && folded(&body.tensors) {
        let found =
            "norms without data in their statistics (mean 0, variance 1), as converted MSRA weights have them, \
                     which do not tell input and strides"
                .to_owned();
        return Err(Refusal { found, advice: advice.to_owned() });
    }
    Ok(())
}

/// Whether all statistics are those of norms that were folded into scale and shift: Caffe's.
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

/// Rewrites the stem of an MSRA file so that torchvision's input gives its features.
///
/// MSRA's input is `255 rgb - 255 mean` in the order BGR (Detectron2's `PIXEL_MEAN` is 255 times ImageNet's mean), so
/// it is torchvision's `(rgb - mean) / std` times `255 std`: a factor for each channel, also for the zeros of the padding.
pub(crate) fn rewrite(tensors: &mut TensorMap, convention: WeightsConvention, std: [f32; 3]) {
    let Some(stem) = tensors.get_mut(STEM).filter(|_| convention == WeightsConvention::Msra) else { return };
    let [_, channels @ 3, height, width] = stem.shape[..] else { return };
    let area = height * width;
    for filter in stem.values.chunks_exact_mut(channels * area) {
        // BGR to RGB: the outer two change places.
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
        // Real statistics; a network before its training; a basic block, which has one place for its stride.
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
