//! Towers and their last layers, under torchvision's names.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_kernels::takes_maps;
use foveal_nn::{Activation, Conv2d, Init, MapSize, NORM_EPS, Norm, NormKind};

use crate::config::{HeadConfig, HeadNorm};
use crate::flatten::flatten_maps;

/// Deviation of every new head weight (arXiv 1708.02002, section 4.1).
const WEIGHT_STD: f64 = 0.01;
/// Numbers a box delta has.
const BOX_VALUES: usize = 4;

/// The bias that makes a sigmoid start at `prior`: -ln((1 - prior) / prior), -4.59512 for 0.01.
pub fn prior_bias(prior: f64) -> f64 {
    -((1.0 - prior) / prior).ln()
}

/// A 3x3 convolution, its norm if any, and a ReLU.
#[derive(Module, Debug)]
pub struct TowerLayer {
    /// torchvision's `0`.
    pub index0: Conv2d,
    /// torchvision's `1`, with group norm.
    pub index1: Option<Norm>,
}

/// The layers before a head's last.
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

fn run_tower(tower: &Tower, x: Tensor<3>, sizes: &[MapSize]) -> Tensor<3> {
    tower.iter().fold(x, |x, layer| match &layer.index1 {
        Some(norm) => norm.forward_maps(layer.index0.forward_maps(x, sizes, Activation::None), sizes, Activation::Relu),
        None => layer.index0.forward_maps(x, sizes, Activation::Relu),
    })
}

/// Scores each anchor for each class.
#[derive(Module, Debug)]
pub struct ClassificationHead {
    /// The tower.
    pub conv: Tower,
    /// To `cells * classes` channels.
    pub cls_logits: Conv2d,
}

/// Corrects each anchor's box.
#[derive(Module, Debug)]
pub struct RegressionHead {
    /// The tower.
    pub conv: Tower,
    /// To `cells * 4` channels.
    pub bbox_reg: Conv2d,
}

/// Both heads: torchvision's `head`.
#[derive(Module, Debug)]
pub struct Head {
    /// Classes.
    pub classification_head: ClassificationHead,
    /// Boxes.
    pub regression_head: RegressionHead,
    /// Classes scored for each anchor.
    #[module(skip)]
    pub classes: usize,
}

/// Rows of all anchors, in the order (level, y, x, cell).
#[derive(Debug, Clone)]
pub struct HeadOutput {
    /// `[batch, anchors, classes]`.
    pub logits: Tensor<3>,
    /// `[batch, anchors, 4]`: dx, dy, dw, dh.
    pub deltas: Tensor<3>,
}

impl Head {
    /// New heads over maps of `channels` channels: weights N(0, 0.01²), biases 0, the class layer's the prior's.
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
        Self { classification_head, regression_head: RegressionHead { conv, bbox_reg }, classes }
    }

    /// # Shapes
    /// - levels: `[batch, channels, height, width]` each
    pub fn forward(&self, levels: &[Tensor<4>]) -> HeadOutput {
        let sizes: Vec<MapSize> = levels.iter().map(MapSize::of).collect();
        let flat: Vec<Tensor<3>> = levels.iter().map(|x| x.clone().flatten(2, 3)).collect();
        // The CPU kernels take all levels at once; elsewhere they would only be cut apart again.
        if levels.iter().all(takes_maps) {
            return self.rows(Tensor::cat(flat, 2), &sizes);
        }
        let each = flat.into_iter().zip(&sizes).map(|(x, size)| self.rows(x, std::slice::from_ref(size)));
        let (logits, deltas) = each.map(|out| (out.logits, out.deltas)).unzip();
        HeadOutput { logits: Tensor::cat(logits, 1), deltas: Tensor::cat(deltas, 1) }
    }

    /// The rows of some levels in one tensor, `[batch, channels, pixels]`.
    fn rows(&self, x: Tensor<3>, sizes: &[MapSize]) -> HeadOutput {
        let (class, boxes) = (&self.classification_head, &self.regression_head);
        let last = |conv: &Conv2d, x| conv.forward_maps(x, sizes, Activation::None);
        let logits = last(&class.cls_logits, run_tower(&class.conv, x.clone(), sizes));
        let deltas = last(&boxes.bbox_reg, run_tower(&boxes.conv, x, sizes));
        HeadOutput { logits: flatten_maps(logits, self.classes), deltas: flatten_maps(deltas, BOX_VALUES) }
    }
}

fn new_class_layer(config: &HeadConfig, channels: usize, outputs: usize, init: &mut Init, device: &Device) -> Conv2d {
    let weight = init.normal([outputs, channels, 3, 3], WEIGHT_STD, device);
    Conv2d::same(weight, Some(Tensor::full([outputs], prior_bias(config.prior), device)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let out = head.forward(&[x]);
        assert_eq!(out.logits.dims(), [1, 6 * 5 * 9, 20]);
        assert_eq!(out.deltas.dims(), [1, 6 * 5 * 9, 4]);
        let p: Vec<f32> = burn::tensor::activation::sigmoid(out.logits).into_data().try_to_vec().unwrap();
        let mean = p.iter().sum::<f32>() / p.len() as f32;
        assert!((mean - 0.01).abs() < 1e-4, "mean sigmoid {mean}");
    }

    fn init_map(device: &Device) -> Tensor<4> {
        Init::seeded(2).normal([1, 64, 6, 5], 1.0, device)
    }
}
