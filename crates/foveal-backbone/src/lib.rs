//! Backbones (ResNet, ResNeXt, wide ResNet) and the feature pyramid, with torchvision's parameter names.
#![recursion_limit = "256"]

mod block;
mod body;
mod config;
mod fpn;
mod resnet;

pub use block::{Block, Downsample};
pub use body::{Body, FREEZABLE, StageMaps};
pub use config::{BackboneKind, BackboneNorm, BlockKind, P6From, ResNetSpec, STAGES};
pub use fpn::{ConvNorm, ExtraBlocks, Fpn};
pub use resnet::ResNet;

use burn::module::Module;
use foveal_nn::Graph;

/// A backbone with its feature pyramid, with the parameter name `backbone` in torchvision.
#[derive(Module, Debug)]
pub struct Backbone {
    /// The classification network without its classifier.
    pub body: Body,
    /// The feature pyramid, which computes the levels P3 to P7.
    pub fpn: Fpn,
}

impl Backbone {
    /// Computes the feature maps C3, C4 and C5 of the backbone, from which the pyramid is computed.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, with height and width multiples of 32
    /// - result: C3, C4 and C5 at the strides 8, 16 and 32
    pub fn stages<G: Graph>(&self, graph: &mut G, images: G::Map) -> StageMaps<G::Map> {
        graph.scope(format_args!("body"), |graph| self.body.forward(graph, images))
    }

    /// Computes the pyramid levels P3 to P7 from the maps of [`Backbone::stages`], P3 first.
    ///
    /// # Shapes
    /// - maps: C3, C4 and C5 of images `[batch, 3, height, width]`
    /// - result: level l is `[batch, channels, ceil(height / 2^l), ceil(width / 2^l)]`
    pub fn pyramid<G: Graph>(&self, graph: &mut G, maps: StageMaps<G::Map>) -> Vec<G::Map> {
        graph.scope(format_args!("fpn"), |graph| self.fpn.forward(graph, maps))
    }
}
