//! The residual block, basic or bottleneck.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_nn::{Activation, Conv2d, Init, NORM_EPS, Norm};

use crate::config::{BlockKind, NormChoice};

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
    /// Inner channels; the output has `expansion` times as many.
    pub width: usize,
    pub stride: usize,
}

impl Block {
    pub(crate) fn new(shape: BlockShape, norm: NormChoice, init: &mut Init, device: &Device) -> Self {
        let BlockShape { kind, inputs, width, stride } = shape;
        let outputs = width * kind.expansion();
        let mut conv = |inputs: usize, outputs: usize, kernel: usize, stride: usize| {
            let weight = init.kaiming_normal_fan_out([outputs, inputs, kernel, kernel], device);
            Conv2d::same(weight, None, stride)
        };
        let norm = |channels: usize| Norm::new(channels, norm.kind(channels), NORM_EPS, device);
        let (conv1, conv2, conv3) = match kind {
            BlockKind::Basic => (conv(inputs, width, 3, stride), conv(width, width, 3, 1), None),
            BlockKind::Bottleneck => {
                (conv(inputs, width, 1, 1), conv(width, width, 3, stride), Some(conv(width, outputs, 1, 1)))
            }
        };
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| Downsample { index0: conv(inputs, outputs, 1, stride), index1: norm(outputs) });
        let bn3 = conv3.as_ref().map(|_| norm(outputs));
        Self { conv1, bn1: norm(width), conv2, bn2: norm(width), conv3, bn3, downsample }
    }

    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - result: `[batch, width * expansion, height / stride, width / stride]`, rounded up
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(d) => d.index0.forward_norm(x.clone(), &d.index1, None, Activation::None),
            None => x.clone(),
        };
        let y = self.conv1.forward_norm(x, &self.bn1, None, Activation::Relu);
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => {
                let y = self.conv2.forward_norm(y, &self.bn2, None, Activation::Relu);
                conv3.forward_norm(y, bn3, Some(shortcut), Activation::Relu)
            }
            _ => self.conv2.forward_norm(y, &self.bn2, Some(shortcut), Activation::Relu),
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
