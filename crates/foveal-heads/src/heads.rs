//! The classification and the box regression head, with torchvision's parameter names.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use foveal_nn::{Activation, Conv2d, Graph, Init, NORM_EPS, Norm, NormKind, named};

use crate::config::{HeadConfig, HeadNorm};

/// Standard deviation of the initial weights of both heads (arXiv 1708.02002, section 4.1).
const WEIGHT_STD: f64 = 0.01;
/// Number of values of a box delta: four, dx, dy, dw and dh.
pub const BOX_VALUES: usize = 4;
/// Number of pyramid levels that the heads are applied to: five, P3 to P7.
pub const LEVELS: usize = 5;

/// The bias with which the sigmoid of an untrained class layer is `prior`, a probability between 0 and 1:
/// `-ln((1 - prior) / prior)`, which is -4.59512 for 0.01 (arXiv 1708.02002, section 4.1).
pub fn prior_bias(prior: f64) -> f64 {
    -((1.0 - prior) / prior).ln()
}

/// One layer of a head's tower: a 3x3 convolution, an optional norm, and a ReLU.
#[derive(Module, Debug)]
pub struct TowerLayer {
    /// The convolution, with the parameter name `0` in torchvision.
    pub index0: Conv2d,
    /// The group norm, with the parameter name `1` in torchvision; `None` without a norm.
    pub index1: Option<Norm>,
}

/// The layers of a head before its output layer, in the order of the forward pass.
pub type Tower = Vec<TowerLayer>;

fn new_tower(config: &HeadConfig, channels: usize, init: &mut Init, device: &Device) -> Tower {
    let bias = |channels| Tensor::zeros([channels], device);
    (0..config.convs)
        .map(|_| {
            let weight = init.normal([channels, channels, 3, 3], WEIGHT_STD, device);
            match config.norm {
                HeadNorm::None => TowerLayer { index0: Conv2d::same(weight, Some(bias(channels)), 1), index1: None },
                HeadNorm::Group => {
                    let norm = Norm::new(channels, NormKind::Group { groups: config.groups }, NORM_EPS, device);
                    TowerLayer { index0: Conv2d::same(weight, None, 1), index1: Some(norm) }
                }
            }
        })
        .collect()
}

fn run_tower<G: Graph>(tower: &Tower, graph: &mut G, x: G::Levels) -> G::Levels {
    tower.iter().enumerate().fold(x, |x, (i, layer)| {
        let norm = layer.index1.as_ref().map(|norm| named("1", norm));
        graph.scope(format_args!("conv.{i}"), |graph| {
            graph.conv_levels(named("0", &layer.index0), norm, x, Activation::Relu)
        })
    })
}

/// The classification head: it predicts one logit per anchor and class (arXiv 1708.02002, section 4).
#[derive(Module, Debug)]
pub struct ClassificationHead {
    /// The tower of 3x3 convolutions before the output layer.
    pub conv: Tower,
    /// The output layer, with `anchors_per_location * classes` channels ordered (anchor, class).
    pub cls_logits: Conv2d,
}

/// The box regression head: it predicts the box delta of each anchor (arXiv 1708.02002, section 4).
#[derive(Module, Debug)]
pub struct RegressionHead {
    /// The tower of 3x3 convolutions before the output layer.
    pub conv: Tower,
    /// The output layer, with `anchors_per_location * 4` channels ordered (anchor, delta value).
    pub bbox_reg: Conv2d,
    /// The factor by which the output of each level is multiplied, [`LEVELS`] numbers, P3 first; `None` without
    /// `model.head.level_scales`. torchvision has no such parameter.
    pub level_scales: Option<Param<Tensor<1>>>,
}

/// The classification and the box regression head, with the parameter name `head` in torchvision. The same weights are
/// applied to all pyramid levels.
#[derive(Module, Debug)]
pub struct Head {
    /// The classification head, which predicts one logit per anchor and class.
    pub classification_head: ClassificationHead,
    /// The box regression head, which predicts the box delta of each anchor.
    pub regression_head: RegressionHead,
    /// Number of classes, each with one logit per anchor.
    #[module(skip)]
    pub classes: usize,
}

/// The output of both heads for all anchors, in the order (level, row, column, anchor of the location).
#[derive(Debug, Clone)]
pub struct HeadOutput<R> {
    /// Class logits, `[batch, anchors, classes]`.
    pub logits: R,
    /// Box deltas dx, dy, dw, dh, `[batch, anchors, 4]`.
    pub deltas: R,
}

impl Head {
    /// Makes heads with new weights for feature maps of `channels` channels.
    ///
    /// Weights are drawn from a normal distribution with mean 0 and standard deviation 0.01. Biases are 0, except for
    /// the class layer, whose sigmoid starts at the prior of the configuration (arXiv 1708.02002, section 4.1). Factors
    /// of the levels are 1.
    pub fn new(
        config: &HeadConfig,
        channels: usize,
        anchors_per_location: usize,
        classes: usize,
        init: &mut Init,
        device: &Device,
    ) -> Self {
        let conv = new_tower(config, channels, init, device);
        let cls_logits = new_class_layer(config, channels, anchors_per_location * classes, init, device);
        let classification_head = ClassificationHead { conv, cls_logits };
        let conv = new_tower(config, channels, init, device);
        let weight = init.normal([anchors_per_location * BOX_VALUES, channels, 3, 3], WEIGHT_STD, device);
        let bias = Tensor::zeros([anchors_per_location * BOX_VALUES], device);
        let bbox_reg = Conv2d::same(weight, Some(bias), 1);
        let level_scales = config.level_scales.then(|| Param::from_tensor(Tensor::ones([LEVELS], device)));
        Self { classification_head, regression_head: RegressionHead { conv, bbox_reg, level_scales }, classes }
    }

    /// Computes the class logits and box deltas of all anchors.
    ///
    /// # Shapes
    /// - levels: `[batch, channels, height, width]` for each level, P3 first
    /// - result: logits `[batch, anchors, classes]`, deltas `[batch, anchors, 4]`
    ///
    /// # Panics
    /// If the levels have factors and there are more than [`LEVELS`] of them.
    pub fn forward<G: Graph>(&self, graph: &mut G, levels: &[G::Map]) -> HeadOutput<G::Rows> {
        let (class, boxes) = (&self.classification_head, &self.regression_head);
        let norms = [&class.conv, &boxes.conv].into_iter().flatten().any(|layer| layer.index1.is_some());
        let x = graph.levels(levels, norms);
        let logits = graph.scope(format_args!("classification_head"), |graph| {
            let x = run_tower(&class.conv, graph, x.clone());
            graph.conv_levels(named("cls_logits", &class.cls_logits), None, x, Activation::None)
        });
        let deltas = graph.scope(format_args!("regression_head"), |graph| {
            let x = run_tower(&boxes.conv, graph, x);
            let x = graph.conv_levels(named("bbox_reg", &boxes.bbox_reg), None, x, Activation::None);
            match &boxes.level_scales {
                Some(scales) => graph.scale_levels(named("level_scales", scales), x),
                None => x,
            }
        });
        HeadOutput { logits: graph.rows(logits, self.classes), deltas: graph.rows(deltas, BOX_VALUES) }
    }

    /// Returns the head reduced to the given classes, in the given order. The weights of the other classes are dropped.
    ///
    /// # Panics
    /// If a class is not below [`Head::classes`].
    pub fn with_classes(mut self, classes: &[usize]) -> Self {
        let layer = &mut self.classification_head.cls_logits;
        let per_location = layer.weight.dims()[0] / self.classes;
        let channels = (0..per_location).flat_map(|anchor| classes.iter().map(move |class| (anchor, *class)));
        let channels: Vec<i32> = channels
            .map(|(anchor, class)| {
                i32::try_from(anchor * self.classes + class).expect("the number of channels fits an i32")
            })
            .collect();
        let indices = Tensor::<1, Int>::from_data(channels.as_slice(), &layer.weight.device());
        layer.weight = layer.weight.clone().map(|weight| weight.select(0, indices.clone()));
        layer.bias = layer.bias.take().map(|bias| bias.map(|bias| bias.select(0, indices)));
        self.classes = classes.len();
        self
    }
}

fn new_class_layer(config: &HeadConfig, channels: usize, outputs: usize, init: &mut Init, device: &Device) -> Conv2d {
    let weight = init.normal([outputs, channels, 3, 3], WEIGHT_STD, device);
    Conv2d::same(weight, Some(Tensor::full([outputs], prior_bias(config.prior), device)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_nn::Eager;

    #[test]
    fn the_prior_is_the_papers() {
        assert!((prior_bias(0.01) + 4.595_12).abs() < 1e-5);
    }

    #[test]
    fn a_new_class_head_starts_at_the_prior() {
        let device = Device::flex();
        let head = Head::new(&HeadConfig::default(), 64, 9, 20, &mut Init::seeded(1), &device);
        let weight: Vec<f32> = head.classification_head.cls_logits.weight.val().into_data().try_to_vec().unwrap();
        let square = weight.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weight.len() as f64;
        assert!((square.sqrt() - 0.01).abs() < 1e-4, "deviation {}", square.sqrt());
        let x = init_map(&device);
        let out = head.forward(&mut Eager, &[x]);
        assert_eq!(out.logits.dims(), [1, 6 * 5 * 9, 20]);
        assert_eq!(out.deltas.dims(), [1, 6 * 5 * 9, 4]);
        let p: Vec<f32> = burn::tensor::activation::sigmoid(out.logits).into_data().try_to_vec().unwrap();
        let mean = p.iter().sum::<f32>() / p.len() as f32;
        assert!((mean - 0.01).abs() < 1e-4, "mean sigmoid {mean}");
    }

    #[test]
    fn factors_multiply_the_deltas_of_their_levels_alone() {
        let device = Device::flex();
        let head = |level_scales| {
            let config = HeadConfig { convs: 1, level_scales, ..HeadConfig::default() };
            Head::new(&config, 64, 2, 3, &mut Init::seeded(1), &device)
        };
        let maps = [init_map(&device), init_map(&device).slice([0..1, 0..64, 0..3, 0..2])];
        let values = |head: &Head| {
            let HeadOutput { logits, deltas } = head.forward(&mut Eager, &maps);
            [logits, deltas].map(|rows| rows.into_data().try_to_vec::<f32>().unwrap())
        };
        let (plain, mut scaled) = (values(&head(false)), head(true));
        // The factors are 1 at first.
        assert_eq!(values(&scaled), plain);
        let factors = Tensor::from_floats([4.0, 0.5, 9.0, 9.0, 9.0], &device);
        scaled.regression_head.level_scales = Some(Param::from_tensor(factors));
        let [logits, deltas] = values(&scaled);
        assert_eq!(logits, plain[0]);
        let first_level = 6 * 5 * 2 * BOX_VALUES;
        assert_eq!(deltas.len(), first_level + 3 * 2 * 2 * BOX_VALUES);
        for (i, (scaled, plain)) in deltas.iter().zip(&plain[1]).enumerate() {
            assert_eq!(*scaled, plain * if i < first_level { 4.0 } else { 0.5 });
        }
    }

    fn init_map(device: &Device) -> Tensor<4> {
        Init::seeded(2).normal([1, 64, 6, 5], 1.0, device)
    }
}
