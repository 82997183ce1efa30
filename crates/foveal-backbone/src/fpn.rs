//! The feature pyramid, P3 to P7 (Lin et al., arXiv 1612.03144; levels P6, P7: arXiv 1708.02002, section 4).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_nn::{Conv2d, Graph, Init, Norm, named};

use crate::body::StageMaps;
use crate::config::P6From;

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

    /// The levels P3 to P7, finest first.
    ///
    /// # Shapes
    /// - result: level l is `[batch, channels, ceil(height / 2^l), ceil(width / 2^l)]`
    pub fn forward<G: Graph>(&self, graph: &mut G, maps: StageMaps<G::Map>) -> Vec<G::Map> {
        let StageMaps { c3, c4, c5 } = maps;
        let top = self.lateral(graph, 2, c5.clone());
        let p5 = self.output(graph, 2, top.clone());
        let lateral = self.lateral(graph, 1, c4);
        let middle = graph.upsample_add(lateral, top);
        let p4 = self.output(graph, 1, middle.clone());
        let lateral = self.lateral(graph, 0, c3);
        let low = graph.upsample_add(lateral, middle);
        let p3 = self.output(graph, 0, low);
        let source = match self.p6_from {
            P6From::P5 => p5.clone(),
            P6From::C5 => c5,
        };
        let ExtraBlocks { p6, p7 } = &self.extra_blocks;
        let p6 = graph.conv(named("extra_blocks.p6", p6), source);
        let x = graph.relu(p6.clone());
        let p7 = graph.conv(named("extra_blocks.p7", p7), x);
        vec![p3, p4, p5, p6, p7]
    }

    /// The 1x1 convolution that brings a map of the backbone to the pyramid's channels.
    fn lateral<G: Graph>(&self, graph: &mut G, i: usize, x: G::Map) -> G::Map {
        let conv = named("0", &self.inner_blocks[i].index0);
        graph.scope(format_args!("inner_blocks.{i}"), |graph| graph.conv(conv, x))
    }

    /// The 3x3 convolution that makes a level of the pyramid.
    fn output<G: Graph>(&self, graph: &mut G, i: usize, x: G::Map) -> G::Map {
        let conv = named("0", &self.layer_blocks[i].index0);
        graph.scope(format_args!("layer_blocks.{i}"), |graph| graph.conv(conv, x))
    }
}
