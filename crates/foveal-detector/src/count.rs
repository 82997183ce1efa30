//! Parameters, multiply-adds and activation memory of a network, counted without computing a forward pass.

use burn::tensor::Device;
use foveal_backbone::{STAGES, StageMaps};
use foveal_nn::{Columns, CountedMap, Counter, Graph, Init, LayerCount};

use crate::{ModelConfig, RetinaNet};

/// Size of the input batch for which a network is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSize {
    /// Number of images in the batch.
    pub batch: usize,
    /// Height of the padded images in pixels, a multiple of 32.
    pub height: usize,
    /// Width of the padded images in pixels, a multiple of 32.
    pub width: usize,
}

/// Parameters, multiply-adds and activation memory of a network for one input size.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkCount {
    /// All layers in the order of the forward pass, under torchvision's parameter names.
    pub layers: Vec<LayerCount>,
    /// Bytes of the feature maps that each backbone stage (layer1 to layer4; the stem counts towards layer1) keeps for
    /// the backward pass, for the whole batch.
    pub stage_bytes: [u64; STAGES],
    /// Bytes of the output map of each backbone stage, for the whole batch.
    pub stage_output_bytes: [u64; STAGES],
    /// Bytes of the feature maps that the pyramid and the heads keep for the backward pass, for the whole batch.
    pub head_bytes: u64,
    /// Bytes of the largest single feature map, for the whole batch.
    pub largest_map_bytes: u64,
    /// The largest unfolded input of a convolution (im2col), which backends other than `flex` and `ndarray` may keep
    /// while the convolution runs. `None` if all kernels are 1x1.
    pub largest_columns: Option<Columns>,
    /// Number of anchors per image.
    pub anchors: usize,
    /// Number of trained scalar parameters: those frozen neither by `model.freeze_stages` nor as `frozen_batch` norms.
    /// Scales and shifts of `frozen_statistics` norms are trained.
    pub trained_parameters: u64,
}

impl ModelConfig {
    /// Counts parameters, multiply-adds and activation memory of the network as it is trained, with
    /// `freeze_stages` stages frozen, for `classes` classes and a batch of the given size. No weight file is read.
    ///
    /// # Panics
    /// May panic if the config is invalid; check it with [`ModelConfig::validate`] first.
    pub fn count(&self, classes: usize, size: InputSize) -> NetworkCount {
        let mut model = self.network_from(classes, &mut Init::zeros(), &Device::flex().autodiff());
        model.backbone.body = model.backbone.body.freeze_stages(self.freeze_stages);
        model.count(size)
    }
}

impl RetinaNet {
    /// Counts parameters, multiply-adds and activation memory of this network for a batch of the given size. What is
    /// trained follows from the parameters' `require_grad` flags.
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
            largest_columns: counter.largest_columns().cloned(),
            anchors: output.rows.logits.shape[1],
            trained_parameters: counter.trained_parameters(),
            layers: counter.into_layers(),
        }
    }
}
