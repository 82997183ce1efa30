//! The interface of a backbone to the detector: four stages, independent of the kind of network.

use burn::module::Module;
use burn::tensor::Device;
use foveal_nn::{Graph, Init, Norm};

use crate::config::{BackboneKind, BackboneNorm, STAGES};
use crate::resnet::ResNet;

/// Number of parts that [`Body::freeze_stages`] can freeze: the stem and the [`STAGES`] stages after it, five in total.
pub const FREEZABLE: usize = STAGES + 1;

/// The feature maps of the backbone from which the pyramid is computed. `height` and `width` are those of the images.
#[derive(Debug, Clone)]
pub struct StageMaps<M> {
    /// Output of stage 1 (layer2), `[batch, channels, height / 8, width / 8]`.
    pub c3: M,
    /// Output of stage 2 (layer3), `[batch, channels, height / 16, width / 16]`.
    pub c4: M,
    /// Output of stage 3 (layer4), `[batch, channels, height / 32, width / 32]`.
    pub c5: M,
}

/// A classification network without its classifier, with the parameter name `backbone.body` in torchvision.
///
/// The name of the variant is not a part of the parameter paths; see `foveal_weights::ParamPath`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Body {
    /// A ResNet, ResNeXt or wide ResNet.
    ResNet(ResNet),
}

impl Body {
    /// Makes a network with new weights from the stream `init`.
    ///
    /// `base_width` is the number of channels of the stem, 64 in every published ResNet. Smaller values make a network
    /// that is narrower in all stages, for tests.
    pub fn new(kind: BackboneKind, base_width: usize, norm: BackboneNorm, init: &mut Init, device: &Device) -> Self {
        Self::ResNet(ResNet::new(kind, base_width, norm, init, device))
    }

    /// Numbers of channels of the maps C3, C4 and C5 of a network.
    pub fn channels(kind: BackboneKind, base_width: usize) -> [usize; 3] {
        let [_, c3, c4, c5] = ResNet::channels(kind, base_width);
        [c3, c4, c5]
    }

    /// Computes all stages and returns the maps C3, C4 and C5.
    ///
    /// # Shapes
    /// - images: `[batch, 3, height, width]`
    /// - result: C3, C4 and C5 at the strides 8, 16 and 32
    pub fn forward<G: Graph>(&self, graph: &mut G, images: G::Map) -> StageMaps<G::Map> {
        let c2 = self.stage(graph, 0, images);
        let c3 = self.stage(graph, 1, c2);
        let c4 = self.stage(graph, 2, c3.clone());
        let c5 = self.stage(graph, 3, c4.clone());
        StageMaps { c3, c4, c5 }
    }

    /// Computes one of the [`STAGES`] stages, counted from 0. Stage 0 includes the stem.
    ///
    /// # Shapes
    /// - x: the images `[batch, 3, height, width]` for stage 0, else the output of the stage before
    /// - result: `[batch, channels, height / stride, width / stride]`, rounded up, with stride `4 << stage`
    ///
    /// # Panics
    /// If `stage` is not below [`STAGES`].
    pub fn stage<G: Graph>(&self, graph: &mut G, stage: usize, x: G::Map) -> G::Map {
        match self {
            Self::ResNet(net) => net.stage(graph, stage, x),
        }
    }

    /// Whether a forward pass of a stage updates running statistics, because the stage contains batch norms that are
    /// trained. Stage 0 includes the stem.
    ///
    /// # Panics
    /// If `stage` is not below [`STAGES`].
    pub fn keeps_statistics(&self, stage: usize) -> bool {
        match self {
            Self::ResNet(net) => net.keeps_statistics(stage),
        }
    }

    /// Whether a stage has a parameter that is trained. Stage 0 includes the stem.
    ///
    /// # Panics
    /// If `stage` is not below [`STAGES`].
    pub fn learns(&self, stage: usize) -> bool {
        match self {
            Self::ResNet(net) => net.learns(stage),
        }
    }

    /// Freezes the `parts` parts nearest to the input, as Detectron2's `FREEZE_AT` does: 0 freezes nothing, 1 the stem,
    /// 2 the stem and layer1, and so on up to [`FREEZABLE`], the whole network. Batch norms in the frozen parts use
    /// their stored statistics.
    pub fn freeze_stages(self, parts: usize) -> Self {
        match self {
            Self::ResNet(net) => Self::ResNet(net.freeze_stages(parts)),
        }
    }

    /// Moves the stride of each bottleneck from its 3x3 convolution to the 1x1 convolution before it, as in the
    /// networks of MSRA (Detectron2's `STRIDE_IN_1X1`).
    pub fn with_stride_in_1x1(self) -> Self {
        match self {
            Self::ResNet(net) => Self::ResNet(net.with_stride_in_1x1()),
        }
    }

    /// Turns the norms with the given names (torchvision's, such as `layer4.0.bn1`) into batch norms that are trained.
    /// This is for norms whose statistics a weight file does not contain: as frozen norms they would normalise nothing.
    pub fn train_norms(mut self, names: &[String]) -> Self {
        self.each_norm(|name, norm| {
            if names.iter().any(|n| n == name) {
                norm.train();
            }
        });
        self
    }

    /// Sets the value that every norm adds to the variance before the division (torch's `eps`).
    pub fn with_norm_eps(mut self, eps: f64) -> Self {
        self.each_norm(|_, norm| norm.eps = eps);
        self
    }

    /// Calls `act` with each norm and its name in torchvision.
    fn each_norm(&mut self, act: impl FnMut(&str, &mut Norm)) {
        match self {
            Self::ResNet(net) => net.each_norm(act),
        }
    }
}
