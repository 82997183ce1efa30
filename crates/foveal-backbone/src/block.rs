//! The residual blocks of ResNet: basic and bottleneck.

use burn::module::Module;
use burn::tensor::Device;
use foveal_nn::{Activation, Conv2d, ConvOptions, Graph, Init, NORM_EPS, Norm, named};

use crate::config::{BackboneNorm, BlockKind};

/// The projection on the shortcut of a residual block, with the parameter name `downsample` in torchvision.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The 1x1 convolution, with the parameter name `downsample.0` in torchvision.
    pub index0: Conv2d,
    /// The norm after the convolution, with the parameter name `downsample.1` in torchvision.
    pub index1: Norm,
}

/// A residual block, `relu(convolutions(x) + shortcut(x))`: basic (two 3x3 convolutions) or bottleneck (1x1, 3x3, 1x1)
/// (He et al., arXiv 1512.03385, section 4.1).
#[derive(Module, Debug)]
pub struct Block {
    /// The first convolution: 3x3 with the block's stride in a basic block, 1x1 in a bottleneck.
    pub conv1: Conv2d,
    /// The norm after the first convolution, over the inner channels of the block.
    pub bn1: Norm,
    /// The second convolution, 3x3. In a bottleneck it has the block's stride, except in networks of MSRA, where the
    /// first convolution has it.
    pub conv2: Conv2d,
    /// The norm after the second convolution, over its output channels.
    pub bn2: Norm,
    /// The third convolution of a bottleneck, 1x1, which increases the number of channels; `None` in a basic block.
    pub conv3: Option<Conv2d>,
    /// The norm after the third convolution of a bottleneck; `None` in a basic block.
    pub bn3: Option<Norm>,
    /// The projection on the shortcut; `None` if the block keeps the number of channels and the resolution.
    pub downsample: Option<Downsample>,
}

/// The sizes of one residual block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockShape {
    /// Kind of the block: basic or bottleneck.
    pub kind: BlockKind,
    /// Number of input channels.
    pub inputs: usize,
    /// Number of channels between the block's convolutions.
    pub inner: usize,
    /// Number of output channels.
    pub outputs: usize,
    /// Number of groups of the 3x3 convolution of a bottleneck.
    pub groups: usize,
    /// Stride in pixels of the convolution that reduces the resolution, and of the projection on the shortcut: 1 or 2.
    pub stride: usize,
}

impl Block {
    pub(crate) fn new(shape: BlockShape, norm: BackboneNorm, init: &mut Init, device: &Device) -> Self {
        let BlockShape { kind, inputs, inner, outputs, groups, stride } = shape;
        let mut conv = |inputs: usize, outputs: usize, kernel: usize, stride: usize, groups: usize| {
            let weight = init.kaiming_normal_fan_out([outputs, inputs / groups, kernel, kernel], device);
            Conv2d::new(weight, None, ConvOptions { stride, padding: kernel / 2, groups })
        };
        let norm = |channels: usize| Norm::new(channels, norm.kind(channels), NORM_EPS, device);
        let (conv1, conv2, conv3) = match kind {
            BlockKind::Basic => (conv(inputs, inner, 3, stride, 1), conv(inner, outputs, 3, 1, 1), None),
            BlockKind::Bottleneck => (
                conv(inputs, inner, 1, 1, 1),
                conv(inner, inner, 3, stride, groups),
                Some(conv(inner, outputs, 1, 1, 1)),
            ),
        };
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| Downsample { index0: conv(inputs, outputs, 1, stride, 1), index1: norm(outputs) });
        let bn3 = conv3.as_ref().map(|_| norm(outputs));
        Self { conv1, bn1: norm(inner), conv2, bn2: norm(inner), conv3, bn3, downsample }
    }

    /// Computes the output of the block, `relu(convolutions(x) + shortcut(x))`.
    ///
    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - result: `[batch, outputs, height / stride, width / stride]`, rounded up
    pub fn forward<G: Graph>(&self, graph: &mut G, x: G::Map) -> G::Map {
        let shortcut = match &self.downsample {
            Some(Downsample { index0, index1 }) => {
                let (conv, norm) = (named("downsample.0", index0), named("downsample.1", index1));
                graph.conv_norm(conv, norm, x.clone(), None, Activation::None)
            }
            None => x.clone(),
        };
        let (conv1, bn1) = (named("conv1", &self.conv1), named("bn1", &self.bn1));
        let (conv2, bn2) = (named("conv2", &self.conv2), named("bn2", &self.bn2));
        let y = graph.conv_norm(conv1, bn1, x, None, Activation::Relu);
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => {
                let y = graph.conv_norm(conv2, bn2, y, None, Activation::Relu);
                graph.conv_norm(named("conv3", conv3), named("bn3", bn3), y, Some(shortcut), Activation::Relu)
            }
            _ => graph.conv_norm(conv2, bn2, y, Some(shortcut), Activation::Relu),
        }
    }

    /// All norms of the block.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm> {
        [&self.bn1, &self.bn2].into_iter().chain(&self.bn3).chain(self.downsample.as_ref().map(|d| &d.index1))
    }

    /// All norms of the block, mutable, with their names in torchvision.
    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Norm)> {
        [("bn1", &mut self.bn1), ("bn2", &mut self.bn2)]
            .into_iter()
            .chain(self.bn3.as_mut().map(|n| ("bn3", n)))
            .chain(self.downsample.as_mut().map(|d| ("downsample.1", &mut d.index1)))
    }
}
