//! ResNet backbones and the feature pyramid, under torchvision's parameter names.
#![recursion_limit = "256"]

mod block;
mod config;
mod fpn;
mod resnet;

pub use block::{Block, Downsample};
pub use config::{BackboneKind, BlockKind, NormChoice, P6From};
pub use fpn::{ConvNorm, ExtraBlocks, Fpn, Pyramid};
pub use resnet::{ResNet, STAGES, StageOutputs};

use burn::module::Module;
use burn::tensor::Tensor;

/// A ResNet and the pyramid over it: torchvision's `backbone`.
#[derive(Module, Debug)]
pub struct Backbone {
    /// The classification network without its head.
    pub body: ResNet,
    /// P3 to P7.
    pub fpn: Fpn,
}

impl Backbone {
    /// # Shapes
    /// - images: `[batch, 3, height, width]`, height and width multiples of 32
    /// - result: level l of P3..P7 is `[batch, channels, ceil(height / 2^l), ceil(width / 2^l)]`
    pub fn forward(&self, images: Tensor<4>) -> Pyramid {
        self.fpn.forward(self.body.forward(images))
    }
}
