//! What the detector knows of a backbone: four stages, whatever network they belong to.

use burn::module::Module;
use burn::tensor::Device;
use foveal_nn::{Graph, Init, Norm};

use crate::config::{BackboneKind, BackboneNorm, STAGES};
use crate::resnet::ResNet;

/// Parts that [`Body::freeze_stages`] can take out of training: the stem and the [`STAGES`] after it.
pub const FREEZABLE: usize = STAGES + 1;

/// The maps that the pyramid reads.
#[derive(Debug, Clone)]
pub struct StageMaps<M> {
    /// Stage 1, `[batch, channels, height / 8, width / 8]`.
    pub c3: M,
    /// Stage 2, `[batch, channels, height / 16, width / 16]`.
    pub c4: M,
    /// Stage 3, `[batch, channels, height / 32, width / 32]`.
    pub c5: M,
}

/// A classification network without its classifier: torchvision's `backbone.body`.
///
/// The variant's name is no part of parameter paths; see `foveal_weights::ParamPath`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Body {
    /// ResNet, ResNeXt and wide ResNet.
    ResNet(ResNet),
}

impl Body {
    /// A network with seeded initial weights.
    ///
    /// `base_width` is the stem's width: 64 in every published ResNet; tests take narrower ones.
    pub fn new(kind: BackboneKind, base_width: usize, norm: BackboneNorm, init: &mut Init, device: &Device) -> Self {
        Self::ResNet(ResNet::new(kind, base_width, norm, init, device))
    }

    /// Channels of C3, C4 and C5.
    pub fn channels(kind: BackboneKind, base_width: usize) -> [usize; 3] {
        let [_, c3, c4, c5] = ResNet::channels(kind, base_width);
        [c3, c4, c5]
    }

    /// All stages, one after the other.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`
    pub fn forward<G: Graph>(&self, graph: &mut G, images: G::Map) -> StageMaps<G::Map> {
        let c2 = self.stage(graph, 0, images);
        let c3 = self.stage(graph, 1, c2);
        let c4 = self.stage(graph, 2, c3.clone());
        let c5 = self.stage(graph, 3, c4.clone());
        StageMaps { c3, c4, c5 }
    }

    /// One of the [`STAGES`] by itself; stage 0 includes the stem.
    ///
    /// # Shapes
    /// - x: the images for stage 0, `[batch, 3, height, width]`; the result of the stage before for the others
    /// - result: at stride `4 << stage`
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn stage<G: Graph>(&self, graph: &mut G, stage: usize, x: G::Map) -> G::Map {
        match self {
            Self::ResNet(net) => net.stage(graph, stage, x),
        }
    }

    /// Whether a forward pass of this stage changes running statistics: it has trained batch norms.
    pub fn keeps_statistics(&self, stage: usize) -> bool {
        match self {
            Self::ResNet(net) => net.keeps_statistics(stage),
        }
    }

    /// Whether this stage has a trained parameter.
    pub fn learns(&self, stage: usize) -> bool {
        match self {
            Self::ResNet(net) => net.learns(stage),
        }
    }

    /// Takes the first `parts` parts out of training: 0 none, 1 the stem, 2 the stem and layer1, … [`FREEZABLE`]
    /// everything (Detectron2's `FREEZE_AT`). Their norms then use the stored statistics.
    pub fn freeze_stages(self, parts: usize) -> Self {
        match self {
            Self::ResNet(net) => Self::ResNet(net.freeze_stages(parts)),
        }
    }

    /// Moves the strides of bottlenecks from the 3x3 convolution to the 1x1 before it, where MSRA's networks have them.
    pub fn with_stride_in_1x1(self) -> Self {
        match self {
            Self::ResNet(net) => Self::ResNet(net.with_stride_in_1x1()),
        }
    }

    /// Turns the named norms (`layer4.0.bn1`, torchvision's names) into trained batch norms, for norms whose statistics
    /// no file supplied: frozen, they would do nothing.
    pub fn train_norms(mut self, names: &[String]) -> Self {
        self.each_norm(|name, norm| {
            if names.iter().any(|n| n == name) {
                norm.train();
            }
        });
        self
    }

    /// Sets what every norm adds to the variance.
    pub fn with_norm_eps(mut self, eps: f64) -> Self {
        self.each_norm(|_, norm| norm.eps = eps);
        self
    }

    /// Calls `act` with each norm and its torchvision name.
    fn each_norm(&mut self, act: impl FnMut(&str, &mut Norm)) {
        match self {
            Self::ResNet(net) => net.each_norm(act),
        }
    }
}
