//! The size of a network, computed before memory for it is allocated.

use burn::tensor::Device;
use foveal_heads::BOX_VALUES;
use foveal_nn::Init;

use crate::ModelConfig;

/// Number of weights of a 3x3 kernel for one input and one output channel.
const KERNEL: f64 = 9.0;
/// Ratio of the last stage's width to the stem's.
const LAST_STAGE: f64 = 8.0;

impl ModelConfig {
    /// The number of weights of all convolutions, without biases; or, if that exceeds `limit`, a lower bound above
    /// `limit`.
    ///
    /// The config may come from an untrusted file: nothing is allocated for a network of more than `limit` weights.
    pub(crate) fn convolution_weights(&self, classes: usize, limit: f64) -> f64 {
        let part = self.large_layers(classes);
        if part > limit {
            return part;
        }
        let mut init = Init::counting();
        self.network_from(classes, &mut init, &Device::flex());
        init.requested()
    }

    /// Checks whether a network for at least `classes` classes can consist of `held` values, as many as the tensors of
    /// a file have. The configuration may come from an untrusted file and need not be valid: nothing is allocated.
    ///
    /// # Errors
    /// A text with both numbers if the network needs more.
    pub fn fits_in(&self, held: usize, classes: usize) -> Result<(), String> {
        let asked = self.large_layers(classes);
        match asked > held as f64 {
            true => Err(format!("a file of {held} values for a network of at least {asked} weights")),
            false => Ok(()),
        }
    }

    /// A lower bound of the number of weights, from the layers that grow fastest with each size in the config. It is
    /// computed in floating point, since integers could overflow.
    pub(crate) fn large_layers(&self, classes: usize) -> f64 {
        let spec = self.backbone.spec();
        let plain_width = 64.0;
        let inner = LAST_STAGE * self.base_width as f64 * (spec.width_per_group * spec.groups) as f64 / plain_width;
        let pyramid = self.fpn_channels as f64;
        let anchors = self.anchors.scales as f64 * self.anchors.ratios.len() as f64;
        let outputs = anchors * (self.channels(classes) as f64 + BOX_VALUES as f64);
        let towers = 2.0 * self.head.convs as f64 * pyramid;
        let weights = KERNEL * (inner * inner / spec.groups as f64 + pyramid * (pyramid + towers + outputs));
        weights.max(outputs).max(self.head.convs as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_backbone::{BackboneKind, P6From};
    use foveal_weights::named_tensors;

    #[test]
    fn the_count_is_the_networks() {
        for (backbone, p6_from, classes) in [
            (BackboneKind::ResNet18, P6From::P5, 3),
            (BackboneKind::ResNet50, P6From::C5, 7),
            (BackboneKind::ResNeXt50_32x4d, P6From::P5, 2),
        ] {
            let mut config =
                ModelConfig { backbone, p6_from, base_width: 16, fpn_channels: 8, ..ModelConfig::default() };
            (config.head.convs, config.anchors.scales) = (2, 1);
            let tensors = named_tensors(&config.skeleton(classes, &Device::flex()));
            let found: usize = tensors.values().filter(|t| t.shape.len() == 4).map(|t| t.values.len()).sum();
            assert_eq!(config.convolution_weights(classes, f64::INFINITY), found as f64, "{backbone:?}");
            assert!(config.large_layers(classes) <= found as f64, "{backbone:?}");
        }
    }

    #[test]
    fn nothing_is_made_of_a_network_beyond_the_limit() {
        for config in [
            ModelConfig { base_width: usize::MAX / 8, ..ModelConfig::default() },
            ModelConfig { fpn_channels: usize::MAX / 2, ..ModelConfig::default() },
        ] {
            assert!(config.convolution_weights(1, 1e9) > 1e9);
        }
        let mut config = ModelConfig::default();
        config.head.convs = usize::MAX;
        assert!(config.convolution_weights(1, 1e9) > 1e9);
    }
}
