//! Backbones and the feature pyramid, under torchvision's parameter names.
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

/// A backbone and the pyramid over it: torchvision's `backbone`.
#[derive(Module, Debug)]
pub struct Backbone {
    /// The classification network without its classifier.
    pub body: Body,
    /// P3 to P7.
    pub fpn: Fpn,
}

impl Backbone {
    /// The maps that the pyramid reads.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, height and width multiples of 32
    pub fn stages<G: Graph>(&self, graph: &mut G, images: G::Map) -> StageMaps<G::Map> {
        graph.scope(format_args!("body"), |graph| self.body.forward(graph, images))
    }

    /// The pyramid P3 to P7 over those maps, finest first.
    ///
    /// # Shapes
    /// - result: level l is `[batch, channels, ceil(height / 2^l), ceil(width / 2^l)]`
    pub fn pyramid<G: Graph>(&self, graph: &mut G, maps: StageMaps<G::Map>) -> Vec<G::Map> {
        graph.scope(format_args!("fpn"), |graph| self.fpn.forward(graph, maps))
    }
}
