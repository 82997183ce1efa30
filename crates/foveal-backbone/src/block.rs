//! The residual block, basic or bottleneck.

use burn::module::Module;
use burn::tensor::Device;
use foveal_nn::{Activation, Conv2d, ConvOptions, Graph, Init, NORM_EPS, Norm, named};

use crate::config::{BackboneNorm, BlockKind};

/// The projection on the shortcut: torchvision's `downsample`, a sequence of two.
#[derive(Module, Debug)]
pub struct Downsample {
    /// 1x1 convolution, torchvision's `downsample.0`.
    pub index0: Conv2d,
    /// Its norm, torchvision's `downsample.1`.
    pub index1: Norm,
}

/// `relu(convs(x) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct Block {
    /// First convolution: 3x3 (basic) or 1x1.
    pub conv1: Conv2d,
    /// Norm of `conv1`.
    pub bn1: Norm,
    /// 3x3; carries the stride in a bottleneck, unless `conv1` does (MSRA).
    pub conv2: Conv2d,
    /// Norm of `conv2`.
    pub bn2: Norm,
    /// 1x1 that widens; bottleneck only.
    pub conv3: Option<Conv2d>,
    /// Norm of `conv3`.
    pub bn3: Option<Norm>,
    /// Where the shape changes.
    pub downsample: Option<Downsample>,
}

/// The sizes of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockShape {
    pub kind: BlockKind,
    pub inputs: usize,
    /// Channels between the block's convolutions.
    pub inner: usize,
    pub outputs: usize,
    /// Groups of the 3x3 convolution of a bottleneck.
    pub groups: usize,
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

    /// The block's output.
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

    /// Every norm of the block.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm> {
        [&self.bn1, &self.bn2].into_iter().chain(&self.bn3).chain(self.downsample.as_ref().map(|d| &d.index1))
    }

    /// Every norm of the block, for switching kinds.
    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Norm)> {
        [("bn1", &mut self.bn1), ("bn2", &mut self.bn2)]
            .into_iter()
            .chain(self.bn3.as_mut().map(|n| ("bn3", n)))
            .chain(self.downsample.as_mut().map(|d| ("downsample.1", &mut d.index1)))
    }
}
