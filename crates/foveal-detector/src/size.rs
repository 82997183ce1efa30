//! How large a network is, before it is made.

use foveal_backbone::{BlockKind, P6From};

use crate::ModelConfig;

/// Numbers in a kernel of 3x3.
const KERNEL: f64 = 9.0;
/// Numbers in the stem's kernels, for each of its channels: 7x7 over red, green and blue.
const STEM: f64 = 147.0;
/// Numbers that a box delta has.
const BOX_VALUES: f64 = 4.0;

impl ModelConfig {
    /// Weights of all convolutions, without biases. In floating point, since nobody has checked the config yet.
    pub(crate) fn convolution_weights(&self, classes: usize) -> f64 {
        let stem = self.base_width as f64;
        let (block, mut inputs, mut width) = (self.backbone.block(), stem, stem);
        let (mut total, mut maps) = (STEM * stem, Vec::new());
        for (stage, depth) in self.backbone.depths().into_iter().enumerate() {
            for i in 0..depth {
                let outputs = width * block.expansion() as f64;
                total += match block {
                    BlockKind::Basic => KERNEL * (inputs * width + width * width),
                    BlockKind::Bottleneck => inputs * width + KERNEL * width * width + width * outputs,
                };
                if inputs != outputs || (stage > 0 && i == 0) {
                    total += inputs * outputs;
                }
                inputs = outputs;
            }
            maps.push(inputs);
            width *= 2.0;
        }
        let pyramid = self.fpn_channels as f64;
        let square = KERNEL * pyramid * pyramid;
        let p6 = match self.p6_from {
            P6From::P5 => square,
            P6From::C5 => KERNEL * inputs * pyramid,
        };
        let laterals: f64 = maps[1..].iter().map(|channels| channels * pyramid).sum();
        let anchors_per_location = self.anchors.scales as f64 * self.anchors.ratios.len() as f64;
        let last = KERNEL * pyramid * anchors_per_location * (self.channels(classes) as f64 + BOX_VALUES);
        total + laterals + 3.0 * square + p6 + square + 2.0 * self.head.convs as f64 * square + last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use foveal_backbone::BackboneKind;
    use foveal_weights::named_tensors;

    #[test]
    fn the_count_is_the_networks() {
        for (backbone, p6_from, classes) in
            [(BackboneKind::ResNet18, P6From::P5, 3), (BackboneKind::ResNet50, P6From::C5, 7)]
        {
            let mut config =
                ModelConfig { backbone, p6_from, base_width: 8, fpn_channels: 8, ..ModelConfig::default() };
            (config.head.convs, config.anchors.scales) = (2, 1);
            let tensors = named_tensors(&config.skeleton(classes, &Device::flex()));
            let found: usize = tensors.values().filter(|t| t.shape.len() == 4).map(|t| t.values.len()).sum();
            assert_eq!(config.convolution_weights(classes), found as f64, "{backbone:?}");
        }
    }
}
