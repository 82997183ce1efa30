//! The network.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_anchors::{Anchors, GridSize};
use foveal_backbone::{Backbone, BackboneNorm, Body, Fpn, StageMaps};
use foveal_coco::CategoryInfo;
use foveal_heads::{Head, HeadOutput};
use foveal_image::IMAGENET_STD;
use foveal_nn::{Eager, Graph, Init};
use foveal_weights::{BackboneFile, LoadReport, TensorMap, load_backbone, load_tensors};

use crate::fine_tune::{BODY, is_checkpoint, start_from};
use crate::{DetectorError, ModelConfig};

/// Backbone, pyramid and heads; parameter paths are torchvision's.
#[derive(Module, Debug)]
pub struct RetinaNet {
    /// Backbone and pyramid.
    pub backbone: Backbone,
    /// Class and box heads.
    pub head: Head,
}

/// The network's answer for a batch, rows in anchor order (level, y, x, cell).
#[derive(Debug, Clone)]
pub struct Dense {
    /// `[batch, anchors, classes]`.
    pub logits: Tensor<3>,
    /// `[batch, anchors, 4]`.
    pub deltas: Tensor<3>,
    /// Height and width of each level's map, P3 first.
    pub grids: Vec<GridSize>,
}

/// A network as its config asks for it.
pub struct BuiltModel {
    /// The network.
    pub model: RetinaNet,
    /// The config with `live_norms` filled in.
    pub config: ModelConfig,
    /// What became of each tensor of `model.weights`, where that was given.
    pub report: Option<LoadReport>,
    /// Tensors of the network, by their whole names, that `model.weights` did not give; none where it names no file.
    pub new_tensors: Vec<String>,
    /// Keys of the config whose values differ from those of the checkpoint in `model.weights`, and shape nothing.
    pub differences: Vec<String>,
}

/// What the network makes of a batch on any interpreter of [`Graph`].
pub struct NetworkOutput<G: Graph> {
    /// The pyramid's maps, P3 first.
    pub levels: Vec<G::Map>,
    /// Logits and deltas of all anchors.
    pub rows: HeadOutput<G::Rows>,
}

impl RetinaNet {
    /// The whole network.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, normalised, height and width multiples of 32
    pub fn run<G: Graph>(&self, graph: &mut G, images: G::Map) -> NetworkOutput<G> {
        let maps = graph.scope(format_args!("backbone"), |graph| self.backbone.stages(graph, images));
        self.run_from_stages(graph, maps)
    }

    /// Pyramid and heads over the backbone's maps.
    pub fn run_from_stages<G: Graph>(&self, graph: &mut G, maps: StageMaps<G::Map>) -> NetworkOutput<G> {
        let levels = graph.scope(format_args!("backbone"), |graph| self.backbone.pyramid(graph, maps));
        let rows = graph.scope(format_args!("head"), |graph| self.head.forward(graph, &levels));
        NetworkOutput { levels, rows }
    }

    /// The network on tensors.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, normalised, height and width multiples of 32
    pub fn forward(&self, images: Tensor<4>) -> Dense {
        self.run(&mut Eager, images).into()
    }

    /// Pyramid and heads on tensors.
    pub fn forward_from_stages(&self, maps: StageMaps<Tensor<4>>) -> Dense {
        self.run_from_stages(&mut Eager, maps).into()
    }
}

impl From<NetworkOutput<Eager>> for Dense {
    fn from(output: NetworkOutput<Eager>) -> Self {
        let grids = output.levels.iter().map(|level| {
            let [_, _, height, width] = level.dims();
            GridSize { height, width }
        });
        Self { grids: grids.collect(), logits: output.rows.logits, deltas: output.rows.deltas }
    }
}

impl ModelConfig {
    /// The bare network with seeded initial weights: no weight file is read and no stage is frozen.
    pub fn seeded(&self, classes: usize, seed: u64, device: &Device) -> RetinaNet {
        self.network_from(classes, &mut Init::seeded(seed), device)
    }

    /// The bare network with weights from `init`.
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

    /// The network with zeros in place of its weights, for a checkpoint's tensors. The weight file that it once started from
    /// is not looked for.
    pub fn skeleton(&self, classes: usize, device: &Device) -> RetinaNet {
        self.network_from(classes, &mut Init::zeros(), device)
    }

    /// A network to train: seeded weights, then `model.weights`, then the frozen stages. From a foveal checkpoint all
    /// but the class layer is taken.
    ///
    /// # Errors
    /// When the config contradicts itself or the weight file cannot be used.
    pub fn build(&self, classes: usize, seed: u64, device: &Device) -> Result<BuiltModel, DetectorError> {
        self.start(classes, None, seed, device)
    }

    /// As [`ModelConfig::build`]; from a foveal checkpoint of the same categories the class layer is taken as well.
    ///
    /// # Errors
    /// As [`ModelConfig::build`].
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
        self.validate().map_err(|e| e.within("model"))?;
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
                if self.norm == BackboneNorm::FrozenBatch {
                    config.live_norms = loaded.norms_without_statistics;
                    model.backbone.body = model.backbone.body.train_norms(&config.live_norms);
                }
                // Nothing is loaded by this: it lists all names of the network.
                let (whole, all) = load_tensors(model, &TensorMap::new());
                model = whole;
                let given: BTreeSet<String> = loaded.report.loaded.iter().map(|n| format!("{BODY}{n}")).collect();
                new_tensors = all.missing.into_iter().filter(|n| !given.contains(n)).collect();
                report = Some(loaded.report);
            }
            None if self.norm == BackboneNorm::FrozenBatch => return Err(DetectorError::FrozenWithoutWeights),
            None => {}
        }
        model.backbone.body = model.backbone.body.freeze_stages(self.freeze_stages);
        Ok(BuiltModel { model, config, report, new_tensors, differences: Vec::new() })
    }

    /// The anchors of a padded image for maps of the given sizes.
    pub fn anchor_boxes(&self, padded_height: usize, padded_width: usize, grids: &[GridSize]) -> Anchors {
        self.anchors.anchors(padded_height, padded_width, grids)
    }
}
