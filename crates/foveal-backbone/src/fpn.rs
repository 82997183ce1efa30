//! The feature pyramid, P3 to P7 (Lin et al., arXiv 1612.03144; levels P6, P7: arXiv 1708.02002, section 4).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_nn::{Conv2d, Graph, Init, Norm, named};

use crate::body::StageMaps;
use crate::config::P6From;

/// A convolution with an optional norm: torchvision's `Conv2dNormActivation` without an activation.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution, with the parameter name `0` in torchvision.
    pub index0: Conv2d,
    /// The norm, with the parameter name `1` in torchvision; `None` without a norm.
    pub index1: Option<Norm>,
}

/// The convolutions that make the levels P6 and P7: 3x3 with stride 2 (arXiv 1708.02002, section 4; torchvision's
/// `LastLevelP6P7`).
#[derive(Module, Debug)]
pub struct ExtraBlocks {
    /// The convolution that makes P6 from P5 or C5, 3x3 with stride 2.
    pub p6: Conv2d,
    /// The convolution that makes P7 from the ReLU of P6, 3x3 with stride 2.
    pub p7: Conv2d,
}

/// The feature pyramid network, P3 to P7 (Lin et al., arXiv 1612.03144, section 3).
///
/// A 1x1 convolution brings each of C3, C4 and C5 to the channels of the pyramid. From the top down, each map is
/// enlarged to the size of the next one by nearest-neighbour interpolation and added to it. A 3x3 convolution of each
/// sum gives P3, P4 and P5; P6 and P7 are computed from the top.
#[derive(Module, Debug)]
pub struct Fpn {
    /// The lateral 1x1 convolutions of C3, C4 and C5, in this order.
    pub inner_blocks: Vec<ConvNorm>,
    /// The 3x3 output convolutions of P3, P4 and P5, in this order.
    pub layer_blocks: Vec<ConvNorm>,
    /// The convolutions of P6 and P7.
    pub extra_blocks: ExtraBlocks,
    /// The map from which P6 is computed.
    #[module(skip)]
    pub p6_from: P6From,
}

impl Fpn {
    /// Makes a pyramid with new weights, initialised as in torchvision: He's uniform initialisation (`a = 1`) and zero
    /// biases.
    ///
    /// `inputs` are the numbers of channels of C3, C4 and C5, `channels` is that of every level of the pyramid.
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

    /// Computes the levels P3 to P7, P3 first.
    ///
    /// # Shapes
    /// - maps: C3, C4 and C5 of images `[batch, 3, height, width]`
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

    /// Applies the 1x1 convolution that brings a map of the backbone to the channels of the pyramid.
    fn lateral<G: Graph>(&self, graph: &mut G, i: usize, x: G::Map) -> G::Map {
        let conv = named("0", &self.inner_blocks[i].index0);
        graph.scope(format_args!("inner_blocks.{i}"), |graph| graph.conv(conv, x))
    }

    /// Applies the 3x3 convolution that makes a level of the pyramid.
    fn output<G: Graph>(&self, graph: &mut G, i: usize, x: G::Map) -> G::Map {
        let conv = named("0", &self.layer_blocks[i].index0);
        graph.scope(format_args!("layer_blocks.{i}"), |graph| graph.conv(conv, x))
    }
}
