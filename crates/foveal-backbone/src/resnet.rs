//! Residual networks without the classifier: ResNet, ResNeXt and wide ResNet.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use foveal_nn::{Conv2d, Graph, Init, NORM_EPS, Norm, named};

use crate::block::{Block, BlockShape};
use crate::config::{BackboneKind, BackboneNorm, STAGES};

/// Widths of layer1 to layer4 in the published networks (He et al., arXiv 1512.03385, table 1).
const WIDTHS: [usize; STAGES] = [64, 128, 256, 512];

/// A ResNet, ResNeXt or wide ResNet without the classifier: a stem and four stages, with torchvision's parameter names
/// (He et al., arXiv 1512.03385).
#[derive(Module, Debug)]
pub struct ResNet {
    /// The convolution of the stem: 7x7 with stride 2. A 3x3 max pooling with stride 2 follows it.
    pub conv1: Conv2d,
    /// The norm after the convolution of the stem.
    pub bn1: Norm,
    /// Blocks of the first stage, whose output has stride 4.
    pub layer1: Vec<Block>,
    /// Blocks of the second stage, whose output has stride 8 (C3).
    pub layer2: Vec<Block>,
    /// Blocks of the third stage, whose output has stride 16 (C4).
    pub layer3: Vec<Block>,
    /// Blocks of the fourth stage, whose output has stride 32 (C5).
    pub layer4: Vec<Block>,
}

impl ResNet {
    /// Makes a network with new weights, initialised as in torchvision: He's normal initialisation with fan out.
    ///
    /// `base_width` is the number of channels of the stem, 64 in every published network. Smaller values make a network
    /// that is narrower in all stages, for tests.
    pub fn new(kind: BackboneKind, base_width: usize, norm: BackboneNorm, init: &mut Init, device: &Device) -> Self {
        let spec = kind.spec();
        let stem = scaled(WIDTHS[0], base_width);
        let conv1 = Conv2d::same(init.kaiming_normal_fan_out([stem, 3, 7, 7], device), None, 2);
        let mut inputs = stem;
        let mut stages = spec.depths.into_iter().zip(WIDTHS).enumerate().map(|(stage, (depth, width))| {
            let width = scaled(width, base_width);
            let (inner, outputs) = (spec.inner_width(width), width * spec.block.expansion());
            (0..depth)
                .map(|i| {
                    let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                    let shape = BlockShape { kind: spec.block, inputs, inner, outputs, groups: spec.groups, stride };
                    inputs = outputs;
                    Block::new(shape, norm, init, device)
                })
                .collect::<Vec<_>>()
        });
        let mut next = || stages.next().expect("there are four stages");
        let (layer1, layer2, layer3, layer4) = (next(), next(), next(), next());
        Self { conv1, bn1: Norm::new(stem, norm.kind(stem), NORM_EPS, device), layer1, layer2, layer3, layer4 }
    }

    /// Numbers of output channels of layer1 to layer4.
    pub(crate) fn channels(kind: BackboneKind, base_width: usize) -> [usize; STAGES] {
        WIDTHS.map(|width| scaled(width, base_width) * kind.spec().block.expansion())
    }

    /// Computes one stage, 0 to 3. Stage 0 consists of the stem and layer1, the others of layer2, layer3 and layer4.
    ///
    /// # Shapes
    /// - x: the images `[batch, 3, height, width]` for stage 0, else the output of the stage before
    /// - result: `[batch, channels, height / stride, width / stride]`, rounded up, with stride `4 << stage`
    ///
    /// # Panics
    /// If `stage` is above 3.
    pub fn stage<G: Graph>(&self, graph: &mut G, stage: usize, x: G::Map) -> G::Map {
        let mut x = x;
        if stage == 0 {
            x = graph.stem(named("conv1", &self.conv1), named("bn1", &self.bn1), x);
        }
        for (i, block) in self.layer(stage).iter().enumerate() {
            x = graph.scope(format_args!("layer{}.{i}", stage + 1), |graph| block.forward(graph, x));
        }
        x
    }

    /// Whether a forward pass of a stage (0 to 3) updates running statistics, because the stage contains batch norms
    /// that are trained. Stage 0 includes the stem.
    ///
    /// # Panics
    /// If `stage` is above 3.
    pub fn keeps_statistics(&self, stage: usize) -> bool {
        let stem = (stage == 0).then_some(&self.bn1);
        stem.into_iter().chain(self.layer(stage).iter().flat_map(Block::norms)).any(Norm::keeps_statistics)
    }

    /// Whether a stage (0 to 3) has a parameter that is trained. Stage 0 includes the stem.
    ///
    /// # Panics
    /// If `stage` is above 3.
    pub fn learns(&self, stage: usize) -> bool {
        struct Any(bool);
        impl ModuleVisitor for Any {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0 |= param.is_require_grad();
            }
        }
        let mut any = Any(false);
        if stage == 0 {
            self.conv1.visit(&mut any);
            self.bn1.visit(&mut any);
        }
        self.layer(stage).iter().for_each(|block| block.visit(&mut any));
        any.0
    }

    fn layer(&self, stage: usize) -> &[Block] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4][stage]
    }

    /// Freezes the stem and the stages nearest to the input, as Detectron2's `FREEZE_AT` does: 0 freezes nothing, 1 the
    /// stem, 2 the stem and layer1, and so on up to 5, the whole network. Batch norms in the frozen part use their
    /// stored statistics.
    pub fn freeze_stages(mut self, stages: usize) -> Self {
        if stages >= 1 {
            self.conv1 = self.conv1.no_grad();
            self.bn1 = self.bn1.no_grad();
        }
        let layers = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        for (i, layer) in layers.into_iter().enumerate() {
            if stages >= i + 2 {
                *layer = std::mem::take(layer).into_iter().map(Module::no_grad).collect();
            }
        }
        self
    }

    /// Moves the stride of each bottleneck from its 3x3 convolution to the 1x1 convolution before it, as in the
    /// networks of MSRA (Detectron2's `STRIDE_IN_1X1`). Basic blocks stay unchanged.
    pub fn with_stride_in_1x1(mut self) -> Self {
        let layers = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        for block in layers.into_iter().flatten().filter(|block| block.conv3.is_some()) {
            std::mem::swap(&mut block.conv1.options.stride, &mut block.conv2.options.stride);
        }
        self
    }

    /// Calls `act` with each norm and its name in torchvision.
    pub(crate) fn each_norm(&mut self, mut act: impl FnMut(&str, &mut Norm)) {
        act("bn1", &mut self.bn1);
        let layers = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        for (stage, layer) in layers.into_iter().enumerate() {
            for (i, block) in layer.iter_mut().enumerate() {
                for (name, norm) in block.norms_mut() {
                    act(&format!("layer{}.{i}.{name}", stage + 1), norm);
                }
            }
        }
    }
}

fn scaled(width: usize, base_width: usize) -> usize {
    width * base_width / WIDTHS[0]
}
