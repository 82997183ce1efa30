//! The feature pyramid, P3 to P7 (Lin et al., arXiv 1612.03144; levels P6, P7: arXiv 1708.02002, section 4).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_kernels::{relu, upsample_add};
use foveal_nn::{Conv2d, Init, Norm};

use crate::config::P6From;
use crate::resnet::StageOutputs;

/// A convolution and, perhaps, its norm: torchvision's `Conv2dNormActivation`, a sequence of `0` and `1`.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// torchvision's `0`.
    pub index0: Conv2d,
    /// torchvision's `1`.
    pub index1: Option<Norm>,
}

/// P6 and P7, by 3x3 convolutions of stride 2.
#[derive(Module, Debug)]
pub struct ExtraBlocks {
    /// From P5 or C5.
    pub p6: Conv2d,
    /// From ReLU(P6).
    pub p7: Conv2d,
}

/// Maps of P3 to P7, each `[batch, channels, ceil(height / 2^level), ceil(width / 2^level)]`.
#[derive(Debug, Clone)]
pub struct Pyramid {
    /// Finest first.
    pub levels: Vec<Tensor<4>>,
}

/// Lateral 1x1, nearest upsampling to the lateral's own size, 3x3 on each sum.
#[derive(Module, Debug)]
pub struct Fpn {
    /// Lateral 1x1 convolutions of C3, C4, C5.
    pub inner_blocks: Vec<ConvNorm>,
    /// Output 3x3 convolutions of P3, P4, P5.
    pub layer_blocks: Vec<ConvNorm>,
    /// P6 and P7.
    pub extra_blocks: ExtraBlocks,
    /// What P6 reads.
    #[module(skip)]
    pub p6_from: P6From,
}

impl Fpn {
    /// A pyramid with torchvision's initial weights: He's uniform (a = 1), biases 0.
    pub fn new(inputs: [usize; 3], channels: usize, p6_from: P6From, init: &mut Init, device: &Device) -> Self {
        let mut conv = |inputs: usize, kernel: usize, stride: usize| {
            let weight = init.kaiming_uniform_fan_in([channels, inputs, kernel, kernel], device);
            Conv2d::same(weight, Some(Tensor::zeros([channels], device)), stride)
        };
        let plain = |conv: Conv2d| ConvNorm { index0: conv, index1: None };
        let p6_inputs = match p6_from {
            P6From::P5 => channels,
            P6From::C5 => inputs[2],
        };
        Self {
            inner_blocks: inputs.map(|c| plain(conv(c, 1, 1))).into(),
            layer_blocks: inputs.map(|_| plain(conv(channels, 3, 1))).into(),
            extra_blocks: ExtraBlocks { p6: conv(p6_inputs, 3, 2), p7: conv(channels, 3, 2) },
            p6_from,
        }
    }

    /// The pyramid over the three maps.
    pub fn forward(&self, x: StageOutputs) -> Pyramid {
        let c5 = x.c5.clone();
        let inner = |i: usize, x: Tensor<4>| self.inner_blocks[i].index0.forward(x);
        let outer = |i: usize, x: Tensor<4>| self.layer_blocks[i].index0.forward(x);
        let top = inner(2, x.c5);
        let p5 = outer(2, top.clone());
        let mid = upsample_add(inner(1, x.c4), top);
        let p4 = outer(1, mid.clone());
        let p3 = outer(0, upsample_add(inner(0, x.c3), mid));
        let p6 = self.extra_blocks.p6.forward(match self.p6_from {
            P6From::P5 => p5.clone(),
            P6From::C5 => c5,
        });
        let p7 = self.extra_blocks.p7.forward(relu(p6.clone()));
        Pyramid { levels: vec![p3, p4, p5, p6, p7] }
    }
}
