//! The RetinaNet network: construction, initial weights and forward pass.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_anchors::{Anchors, GridSize};
use foveal_backbone::{Backbone, Body, Fpn, StageMaps};
use foveal_coco::CategoryInfo;
use foveal_heads::{Head, HeadOutput};
use foveal_image::IMAGENET_STD;
use foveal_kernels::at_least_f32;
use foveal_nn::{Eager, Graph, Init};
use foveal_weights::{BackboneFile, LoadReport, TensorMap, load_backbone, load_tensors};

use crate::fine_tune::{BODY, is_checkpoint, start_from};
use crate::{DetectorError, ModelConfig};

const _: () = assert!(foveal_heads::LEVELS == foveal_anchors::LEVELS);

/// RetinaNet (Lin et al., arXiv 1708.02002): backbone, feature pyramid and heads. Parameter paths are those of
/// torchvision's `RetinaNet`.
#[derive(Module, Debug)]
pub struct RetinaNet {
    /// Residual network and feature pyramid.
    pub backbone: Backbone,
    /// Class head and box head, shared by all pyramid levels.
    pub head: Head,
}

/// Class logits and box deltas of all anchors of a batch, in anchor order: level, row, column, anchor of the location.
///
/// Logits and deltas are f32, also if the network computed its feature maps in 16 bits.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Class logits, before the sigmoid: `[batch, anchors, class channels]`.
    pub logits: Tensor<3>,
    /// Box deltas dx, dy, dw, dh relative to the anchors: `[batch, anchors, 4]`.
    pub deltas: Tensor<3>,
    /// Height and width of each pyramid level's feature map in locations, from P3 to P7.
    pub grids: Vec<GridSize>,
}

/// A network built from its config for training, and what was loaded from `model.weights`.
pub struct BuiltModel {
    /// Network with its initial weights loaded and the stages of `freeze_stages` frozen.
    pub model: RetinaNet,
    /// Config of the network, with `live_norms` and `class_channels` filled in from the weight file.
    pub config: ModelConfig,
    /// Loaded, missing, unused and mismatched tensors of `model.weights`, or `None` if that is not set.
    pub report: Option<LoadReport>,
    /// Full names of the network's tensors that were not loaded from `model.weights` and keep their initial values.
    /// Empty if `model.weights` is not set.
    pub new_tensors: Vec<String>,
    /// One phrase for each setting that differs from the checkpoint in `model.weights` and changes the features
    /// without changing tensor shapes, such as `model.norm_eps is 0.001, but 1e-5 in the checkpoint`.
    pub differences: Vec<String>,
}

/// Output of the network for a batch, for any interpreter of [`Graph`].
pub struct NetworkOutput<G: Graph> {
    /// Feature maps of the pyramid, from P3 to P7, each `[batch, channels, height, width]`.
    pub levels: Vec<G::Map>,
    /// Class logits and box deltas of all anchors, in anchor order: level, row, column, anchor of the location.
    pub rows: HeadOutput<G::Rows>,
}

impl RetinaNet {
    /// Runs the whole network on an interpreter of [`Graph`]: tensors, a counter or an ONNX builder.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, normalised; height and width are multiples of 32
    /// - result: levels `[batch, channels, height / stride, width / stride]` for P3 to P7 (rounded up), logits
    ///   `[batch, anchors, class channels]`, deltas `[batch, anchors, 4]`
    pub fn run<G: Graph>(&self, graph: &mut G, images: G::Map) -> NetworkOutput<G> {
        let maps = graph.scope(format_args!("backbone"), |graph| self.backbone.stages(graph, images));
        self.run_from_stages(graph, maps)
    }

    /// Runs the feature pyramid and the heads on the backbone's feature maps, on an interpreter of [`Graph`].
    ///
    /// # Shapes
    /// - maps: C3, C4 and C5, each `[batch, channels, height, width]`, of strides 8, 16 and 32
    /// - result: levels `[batch, channels, height, width]` for P3 to P7, logits `[batch, anchors, class channels]`,
    ///   deltas `[batch, anchors, 4]`
    pub fn run_from_stages<G: Graph>(&self, graph: &mut G, maps: StageMaps<G::Map>) -> NetworkOutput<G> {
        let levels = graph.scope(format_args!("backbone"), |graph| self.backbone.pyramid(graph, maps));
        let rows = graph.scope(format_args!("head"), |graph| self.head.forward(graph, &levels));
        NetworkOutput { levels, rows }
    }

    /// Runs the whole network on tensors. Feature maps have the data type of `images` (see
    /// [`ComputePrecision::cast`](crate::ComputePrecision::cast)).
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, normalised; height and width are multiples of 32
    /// - result: logits `[batch, anchors, class channels]`, deltas `[batch, anchors, 4]`
    pub fn forward(&self, images: Tensor<4>) -> Dense {
        self.run(&mut Eager, images).into()
    }

    /// Runs the feature pyramid and the heads on the backbone's feature maps.
    ///
    /// # Shapes
    /// - maps: C3, C4 and C5, each `[batch, channels, height, width]`, of strides 8, 16 and 32
    /// - result: logits `[batch, anchors, class channels]`, deltas `[batch, anchors, 4]`
    pub fn forward_from_stages(&self, maps: StageMaps<Tensor<4>>) -> Dense {
        self.run_from_stages(&mut Eager, maps).into()
    }
}

impl<G: Graph<Map = Tensor<4>, Rows = Tensor<3>>> From<NetworkOutput<G>> for Dense {
    fn from(output: NetworkOutput<G>) -> Self {
        let grids = output.levels.iter().map(|level| {
            let [_, _, height, width] = level.dims();
            GridSize { height, width }
        });
        let HeadOutput { logits, deltas } = output.rows;
        Self { grids: grids.collect(), logits: at_least_f32(logits), deltas: at_least_f32(deltas) }
    }
}

impl ModelConfig {
    /// Builds the network for `classes` classes with random initial weights from `seed`. `weights` is not read and
    /// `freeze_stages` is not applied. The config must be valid ([`ModelConfig::validate`]).
    pub fn seeded(&self, classes: usize, seed: u64, device: &Device) -> RetinaNet {
        self.network_from(classes, &mut Init::seeded(seed), device)
    }

    /// Builds the network with weights from `init`, without reading `weights` or applying `freeze_stages`.
    pub(crate) fn network_from(&self, classes: usize, init: &mut Init, device: &Device) -> RetinaNet {
        let body = Body::new(self.backbone, self.base_width, self.norm, init, device)
            .with_norm_eps(self.norm_eps)
            .train_norms(&self.live_norms);
        let body = if self.weights_convention.stride_in_1x1() { body.with_stride_in_1x1() } else { body };
        let channels = Body::channels(self.backbone, self.base_width);
        let fpn = Fpn::new(channels, self.fpn_channels, self.p6_from, init, device);
        let (anchors_per_location, channels) = (self.anchors.anchors_per_location(), self.channels(classes));
        let head = Head::new(&self.head, self.fpn_channels, anchors_per_location, channels, init, device);
        RetinaNet { backbone: Backbone { body, fpn }, head }
    }

    /// Builds the network for `classes` classes with all weights zero, into which the tensors of a checkpoint can be
    /// loaded. `weights` is not read and `freeze_stages` is not applied. The config must be valid
    /// ([`ModelConfig::validate`]).
    pub fn skeleton(&self, classes: usize, device: &Device) -> RetinaNet {
        self.network_from(classes, &mut Init::zeros(), device)
    }

    /// Builds a network for training with `classes` classes: random initial weights from `seed`, then the tensors of
    /// `weights`, then `freeze_stages` stages frozen. If `weights` is a foveal checkpoint, everything that fits is
    /// loaded except the class layer, whose categories are unknown here.
    ///
    /// # Errors
    /// [`DetectorError::Setting`] if the config is invalid; [`DetectorError::FrozenWithoutWeights`] if `norm` is
    /// `frozen_batch` or `frozen_statistics` and `weights` is not set; [`DetectorError::Weights`],
    /// [`DetectorError::Io`], [`DetectorError::Checkpoint`] or [`DetectorError::Import`] if the weight file cannot be
    /// used.
    pub fn build(&self, classes: usize, seed: u64, device: &Device) -> Result<BuiltModel, DetectorError> {
        self.start(classes, None, seed, device)
    }

    /// Builds a network for training on `categories`: random initial weights from `seed`, then the tensors of
    /// `weights`, then `freeze_stages` stages frozen. If `weights` is a foveal checkpoint, everything that fits is
    /// loaded; the class layer is loaded only if the checkpoint has the same categories in the same order.
    ///
    /// # Errors
    /// [`DetectorError::Setting`] if the config is invalid; [`DetectorError::FrozenWithoutWeights`] if `norm` is
    /// `frozen_batch` or `frozen_statistics` and `weights` is not set; [`DetectorError::Weights`],
    /// [`DetectorError::Io`], [`DetectorError::Checkpoint`] or [`DetectorError::Import`] if the weight file cannot be
    /// used.
    pub fn build_for(
        &self,
        categories: &[CategoryInfo],
        seed: u64,
        device: &Device,
    ) -> Result<BuiltModel, DetectorError> {
        self.start(categories.len(), Some(categories), seed, device)
    }

    fn start(
        &self,
        classes: usize,
        categories: Option<&[CategoryInfo]>,
        seed: u64,
        device: &Device,
    ) -> Result<BuiltModel, DetectorError> {
        self.validate().and_then(|()| self.validate_size(classes)).map_err(|e| e.within("model"))?;
        if let Some(path) = self.weights.as_deref().filter(|path| is_checkpoint(path)) {
            return start_from(self, path, classes, categories, seed, device);
        }
        let mut config = self.clone();
        let mut model = self.seeded(classes, seed, device);
        let (mut report, mut new_tensors) = (None, Vec::new());
        match &self.weights {
            Some(path) => {
                let file = BackboneFile {
                    path,
                    kind: self.backbone,
                    norm: self.norm,
                    convention: self.weights_convention,
                    input_std: IMAGENET_STD,
                };
                let loaded = load_backbone(model.backbone.body, &file)?;
                model.backbone.body = loaded.body;
                if self.norm.has_fixed_statistics() {
                    config.live_norms = loaded.norms_without_statistics;
                    model.backbone.body = model.backbone.body.train_norms(&config.live_norms);
                }
                // An empty map loads nothing; its report lists all names of the network as missing.
                let (whole, all) = load_tensors(model, &TensorMap::new());
                model = whole;
                let given: BTreeSet<String> = loaded.report.loaded.iter().map(|n| format!("{BODY}{n}")).collect();
                new_tensors = all.missing.into_iter().filter(|n| !given.contains(n)).collect();
                report = Some(loaded.report);
            }
            None if self.norm.has_fixed_statistics() => {
                return Err(DetectorError::FrozenWithoutWeights { norm: self.norm.name() });
            }
            None => {}
        }
        model.backbone.body = model.backbone.body.freeze_stages(self.freeze_stages);
        Ok(BuiltModel { model, config, report, new_tensors, differences: Vec::new() })
    }

    /// Returns the anchors of an image for feature maps of the given sizes.
    ///
    /// # Shapes
    /// - padded_height, padded_width: size of the padded image in pixels
    /// - grids: size of the feature map of each level, from P3 to P7
    /// - result: boxes in pixels of the padded image, in the order level, row, column, anchor of the location
    pub fn anchor_boxes(&self, padded_height: usize, padded_width: usize, grids: &[GridSize]) -> Anchors {
        self.anchors.anchors(padded_height, padded_width, grids)
    }
}
