//! Online hard example mining: of the background anchors, only those with the highest loss take part in the loss.
//!
//! This is OHEM (Shrivastava et al., arXiv 1604.03540) with a fixed ratio of negatives to positives, as in SSD (Liu et
//! al., arXiv 1512.02325, section 2.2) and in the comparison of arXiv 1708.02002, section 5.1: the negatives are sorted
//! by their loss, and the first of them are kept, `ratio` for each positive. An example is an anchor; its loss is the
//! sum over the classes. The selection is made for each image, so that it does not depend on how images are accumulated
//! in batches. GPUs select by themselves, because reading the costs would make the host wait in every step.

use burn::tensor::{Device, Int, Tensor};
use foveal_kernels::{BACKGROUND, BREAKDOWN_LEVELS, BreakdownLayout, is_gpu, keep_hardest, keep_hardest_on_device};

/// Where the background anchors are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// On the host, which reads one number per anchor.
    Host,
    /// On the device of the logits, without a transfer to the host.
    Device,
}

impl Selection {
    /// The place for a device: the host for CPU backends, whose tensors it can read without waiting.
    pub(crate) fn of(device: &Device) -> Self {
        if is_gpu(device) { Self::Device } else { Self::Host }
    }
}

/// The loss of each anchor as background, `[batch, anchors]`: the sum of the cross entropies of its classes. `logits`
/// is `[batch, anchors, classes]`.
fn costs(logits: &Tensor<3>) -> Tensor<2> {
    let [batch, anchors, _] = logits.dims();
    let x = logits.clone().without_autodiff();
    // The cross entropy of background is the softplus of each logit.
    (x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()).sum_dim(2).reshape([batch, anchors])
}

/// The number of background anchors of an image that take part, for the classes `ids` of its anchors. An image without
/// positives keeps as many background anchors as an image with one positive.
fn count(ids: &[i32], ratio: f64) -> usize {
    let positives = ids.iter().filter(|id| **id >= 0).count();
    (ratio * positives.max(1) as f64).round() as usize
}

/// The number of background anchors of each image that take part, `[batch]`. `ids` is `[batch * anchors]`.
pub(crate) fn counts(ids: &[i32], anchors: usize, ratio: f64) -> Vec<i32> {
    let of_image =
        |ids: &[i32]| i32::try_from(count(ids, ratio).min(ids.len())).expect("anchors of an image fit an i32");
    ids.chunks(anchors.max(1)).map(of_image).collect()
}

/// Sets to `IGNORE` the background anchors in `ids` (`[batch * anchors]`) that are not among the hardest of their
/// image. Reads one number per anchor from the device. `logits` is `[batch, anchors, classes]`.
pub(crate) fn keep_on_host(logits: &Tensor<3>, ids: &mut [i32], ratio: f64) {
    let [_, anchors, _] = logits.dims();
    // This waits for the device.
    let costs: Vec<f32> =
        costs(logits).into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
    for (ids, costs) in ids.chunks_mut(anchors.max(1)).zip(costs.chunks(anchors.max(1))) {
        let count = count(ids, ratio);
        keep_hardest(ids, costs, count);
    }
}

/// Returns `ids` (`[batch * anchors]`), in which the background anchors that are not among the hardest of their image
/// are `IGNORE`. Waits for nothing. `logits` is `[batch, anchors, classes]`, `keep` is the number of background anchors
/// that take part in each image, `[batch]`.
pub(crate) fn keep_on_device(logits: &Tensor<3>, ids: Tensor<1, Int>, keep: Tensor<1, Int>) -> Tensor<1, Int> {
    keep_hardest_on_device(costs(logits), ids, keep)
}

/// The number of background anchors in `ids` on each pyramid level, `[levels]`. `ids` is `[batch * anchors]`.
pub(crate) fn background_by_level(ids: &Tensor<1, Int>, layout: BreakdownLayout) -> Tensor<1> {
    let [rows] = ids.dims();
    let batch = rows / layout.anchors();
    let background = ids.clone().without_autodiff().equal_elem(BACKGROUND).float().reshape([batch, layout.anchors()]);
    let mut start = 0;
    let levels: [Tensor<1>; BREAKDOWN_LEVELS] = layout.level_anchors.map(|anchors| {
        start += anchors;
        if anchors == 0 {
            return Tensor::zeros([1], &background.device());
        }
        background.clone().narrow(1, start - anchors, anchors).sum()
    });
    Tensor::cat(levels.to_vec(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakdown::LossBreakdown;
    use crate::config::LossConfig;
    use crate::kind::ClassLossKind;
    use crate::losses::Normalizer;
    use burn::tensor::TensorData;
    use foveal_anchors::{IGNORE, ImageTargets, Positive};
    use foveal_boxes::{BBox, Delta};

    const ANCHORS: usize = 24;
    const CLASSES: usize = 3;

    fn image(positives: &[u32]) -> ImageTargets {
        let anchor_box = BBox::new(0.0, 0.0, 10.0, 10.0);
        let delta = Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 };
        let positive = |anchor: u32| Positive { anchor, class: anchor % 3, anchor_box, object: anchor_box, delta };
        let mut classes = vec![BACKGROUND; ANCHORS];
        classes[7] = IGNORE;
        positives.iter().for_each(|anchor| classes[*anchor as usize] = (*anchor % 3) as i32);
        ImageTargets { classes, positives: positives.iter().copied().map(positive).collect() }
    }

    /// The losses, the gradient of the logits and the breakdown.
    fn run(config: &LossConfig, selection: Selection, device: &Device) -> (Vec<f32>, LossBreakdown) {
        let targets = [image(&[2, 12]), image(&[])];
        // Only five different logits, so that many anchors have the same cost.
        let values: Vec<f32> = (0..2 * ANCHORS * CLASSES).map(|i| ((i / CLASSES) * 7 % 5) as f32 * 0.5 - 1.0).collect();
        let logits = Tensor::<3>::from_data(TensorData::new(values, [2, ANCHORS, CLASSES]), device).require_grad();
        let deltas = Tensor::zeros([2, ANCHORS, 4], device);
        let layout = BreakdownLayout { level_anchors: [13, 0, 8, 3, 0] };
        let normalizer = Normalizer::Positives(2);
        let losses = config.forward_selecting(logits.clone(), deltas, &targets, normalizer, Some(layout), selection);
        let grads = losses.total.backward();
        let read = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().unwrap();
        let mut values = read(Tensor::cat(vec![losses.total.without_autodiff(), losses.class_sums], 0));
        values.extend(read(logits.grad(&grads).unwrap().reshape([2 * ANCHORS * CLASSES])));
        let breakdown = losses.breakdown.unwrap();
        (values, LossBreakdown::read(breakdown.counts, &read(breakdown.values)))
    }

    #[test]
    #[allow(deprecated)] // burn-ndarray is deprecated upstream and supported here
    fn the_device_selects_as_the_host_does() {
        for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
            for ratio in [0.2, 1.0, 1.5, 3.0, 100.0] {
                let config = LossConfig { kind: ClassLossKind::Ohem, ohem_ratio: ratio, ..LossConfig::default() };
                let host = run(&config, Selection::Host, &device);
                assert_eq!(run(&config, Selection::Device, &device), host, "ratio {ratio}");
                let kept: u64 = host.1.counts.levels.iter().map(|l| l.background).sum();
                // 21 and 23 anchors are background. The image without positives counts as one with one positive.
                let expected = (2.0 * ratio).round().min(21.0) + ratio.round().min(23.0);
                assert_eq!(kept, expected as u64, "ratio {ratio}");
            }
        }
    }

    #[test]
    fn host_and_device_are_told_apart() {
        assert_eq!(Selection::of(&Device::flex()), Selection::Host);
        assert_eq!(Selection::of(&Device::flex().autodiff()), Selection::Host);
        #[cfg(feature = "wgpu")]
        {
            // Naming a device does not open it.
            let gpu = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
            assert_eq!(Selection::of(&gpu.autodiff()), Selection::Device);
        }
    }
}
