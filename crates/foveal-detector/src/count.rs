//! Parameters, multiply-adds and activation memory of a network, counted without running it.

use burn::tensor::Device;
use foveal_backbone::{STAGES, StageMaps};
use foveal_nn::{CountedMap, Counter, Graph, Init, LayerCount};

use crate::{ModelConfig, RetinaNet};

/// The images that a count is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSize {
    /// Images in the batch.
    pub batch: usize,
    /// Pixels, a multiple of 32.
    pub height: usize,
    /// Pixels, a multiple of 32.
    pub width: usize,
}

/// What a network takes.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkCount {
    /// All layers in the order of the forward pass, under torchvision's names.
    pub layers: Vec<LayerCount>,
    /// Bytes of the maps that each stage of the backbone keeps for the backward pass.
    pub stage_bytes: [u64; STAGES],
    /// Bytes of each stage's result.
    pub stage_output_bytes: [u64; STAGES],
    /// Bytes of the maps that pyramid and heads keep.
    pub head_bytes: u64,
    /// Bytes of the largest map.
    pub largest_map_bytes: u64,
    /// Anchors of an image.
    pub anchors: usize,
    /// Numbers that are trained: neither frozen by `freeze_stages` nor by `frozen_batch`.
    pub trained_parameters: u64,
}

impl ModelConfig {
    /// Counts the network that the config describes as it is trained, with its stages frozen. No weight file is read.
    ///
    /// The config must be valid ([`ModelConfig::validate`]).
    pub fn count(&self, classes: usize, size: InputSize) -> NetworkCount {
        let mut model = self.network_from(classes, &mut Init::zeros(), &Device::flex().autodiff());
        model.backbone.body = model.backbone.body.freeze_stages(self.freeze_stages);
        model.count(size)
    }
}

impl RetinaNet {
    /// Counts the network.
    pub fn count(&self, size: InputSize) -> NetworkCount {
        let mut counter = Counter::new();
        let mut x = counter.images([size.batch, 3, size.height, size.width]);
        let mut kept = 0;
        let (mut stage_bytes, mut stage_output_bytes) = ([0; STAGES], [0; STAGES]);
        let [_, c3, c4, c5]: [CountedMap; STAGES] = std::array::from_fn(|stage| {
            x = counter
                .scope(format_args!("backbone.body"), |counter| self.backbone.body.stage(counter, stage, x.clone()));
            stage_bytes[stage] = counter.kept_bytes() - kept;
            stage_output_bytes[stage] = x.bytes();
            kept = counter.kept_bytes();
            x.clone()
        });
        let output = self.run_from_stages(&mut counter, StageMaps { c3, c4, c5 });
        NetworkCount {
            stage_bytes,
            stage_output_bytes,
            head_bytes: counter.kept_bytes() - kept,
            largest_map_bytes: counter.largest_map_bytes(),
            anchors: output.rows.logits.shape[1],
            trained_parameters: counter.trained_parameters(),
            layers: counter.into_layers(),
        }
    }
}
