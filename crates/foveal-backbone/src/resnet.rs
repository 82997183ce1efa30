//! ResNet without its classifier.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use foveal_kernels::max_pool_3x3_s2_p1;
use foveal_nn::{Activation, Conv2d, Init, NORM_EPS, Norm, NormKind};

use crate::block::{Block, BlockShape};
use crate::config::{BackboneKind, NormChoice};

/// The parts that [`ResNet::stage`] runs: the stem with layer1, then layer2, layer3, layer4.
pub const STAGES: usize = 4;

/// Inner channels of layer1 .. layer4 (He et al., table 1).
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// The maps that the pyramid reads, at strides 8, 16 and 32.
#[derive(Debug, Clone)]
pub struct StageOutputs {
    /// layer2, `[batch, channels, height / 8, width / 8]`.
    pub c3: Tensor<4>,
    /// layer3, stride 16.
    pub c4: Tensor<4>,
    /// layer4, stride 32.
    pub c5: Tensor<4>,
}

/// The stem and four stages: torchvision's `body`.
#[derive(Module, Debug)]
pub struct ResNet {
    /// 7x7, stride 2.
    pub conv1: Conv2d,
    /// Norm of the stem.
    pub bn1: Norm,
    /// Stride 4.
    pub layer1: Vec<Block>,
    /// Stride 8.
    pub layer2: Vec<Block>,
    /// Stride 16.
    pub layer3: Vec<Block>,
    /// Stride 32.
    pub layer4: Vec<Block>,
}

impl ResNet {
    /// A network with torchvision's initial weights: He's normal, fan out.
    ///
    /// `base_width` is 64 in every published network; tests take narrower ones.
    pub fn new(kind: BackboneKind, base_width: usize, norm: NormChoice, init: &mut Init, device: &Device) -> Self {
        let block = kind.block();
        let stem = scaled(WIDTHS[0], base_width);
        let conv1 = Conv2d::same(init.kaiming_normal_fan_out([stem, 3, 7, 7], device), None, 2);
        let mut inputs = stem;
        let mut stages = kind.depths().into_iter().zip(WIDTHS).enumerate().map(|(stage, (depth, width))| {
            let width = scaled(width, base_width);
            (0..depth)
                .map(|i| {
                    let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                    let made = Block::new(BlockShape { kind: block, inputs, width, stride }, norm, init, device);
                    inputs = width * block.expansion();
                    made
                })
                .collect::<Vec<_>>()
        });
        let mut next = || stages.next().expect("four stages");
        let (layer1, layer2, layer3, layer4) = (next(), next(), next(), next());
        Self { conv1, bn1: Norm::new(stem, norm.kind(stem), NORM_EPS, device), layer1, layer2, layer3, layer4 }
    }

    /// Channels of C3, C4, C5.
    pub fn channels(kind: BackboneKind, base_width: usize) -> [usize; 3] {
        [1, 2, 3].map(|stage| scaled(WIDTHS[stage], base_width) * kind.block().expansion())
    }

    /// # Shapes
    /// - images: `[batch, 3, height, width]`
    pub fn forward(&self, images: Tensor<4>) -> StageOutputs {
        let c3 = self.stage(1, self.stage(0, images));
        let c4 = self.stage(2, c3.clone());
        let c5 = self.stage(3, c4.clone());
        StageOutputs { c3, c4, c5 }
    }

    /// One of the [`STAGES`] by itself.
    ///
    /// # Shapes
    /// - x: the images for stage 0, `[batch, 3, height, width]`; the map of the stage before for the others
    /// - result: at stride `4 << stage`
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn stage(&self, stage: usize, x: Tensor<4>) -> Tensor<4> {
        let x = match stage {
            0 => max_pool_3x3_s2_p1(self.conv1.forward_norm(x, &self.bn1, None, Activation::Relu)),
            _ => x,
        };
        self.layer(stage).iter().fold(x, |x, block| block.forward(x))
    }

    /// Whether a forward pass of this stage changes running statistics: it has trained batch norms.
    pub fn keeps_statistics(&self, stage: usize) -> bool {
        let stem = (stage == 0).then_some(&self.bn1);
        stem.into_iter().chain(self.layer(stage).iter().flat_map(Block::norms)).any(Norm::keeps_statistics)
    }

    /// Whether this stage has a trained parameter.
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

    /// Takes the first `stages` stages out of training: 0 none, 1 the stem, 2 stem and layer1, … 5 everything
    /// (Detectron2's `FREEZE_AT`). Their norms then use the stored statistics.
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

    /// Turns the named norms (`layer4.0.bn1`, torchvision's names) into trained batch norms.
    /// For norms whose statistics no file supplied: frozen, they would do nothing.
    pub fn train_norms(mut self, names: &[String]) -> Self {
        self.each_norm(|name, norm| {
            if names.iter().any(|n| n == name) {
                norm.kind = NormKind::Batch;
                norm.weight = norm.weight.clone().set_require_grad(true);
                norm.bias = norm.bias.clone().set_require_grad(true);
            }
        });
        self
    }

    /// Moves the strides of bottlenecks from the 3x3 to the 1x1 before it, where MSRA's networks have them.
    pub fn with_stride_in_1x1(mut self) -> Self {
        let layers = [&mut self.layer1, &mut self.layer2, &mut self.layer3, &mut self.layer4];
        for block in layers.into_iter().flatten().filter(|block| block.conv3.is_some()) {
            std::mem::swap(&mut block.conv1.options.stride, &mut block.conv2.options.stride);
        }
        self
    }

    /// Sets what every norm adds to the variance.
    pub fn with_norm_eps(mut self, eps: f64) -> Self {
        self.each_norm(|_, norm| norm.eps = eps);
        self
    }

    /// Calls `act` with each norm and its torchvision name.
    pub fn each_norm(&mut self, mut act: impl FnMut(&str, &mut Norm)) {
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
