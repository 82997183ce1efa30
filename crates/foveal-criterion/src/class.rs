//! The class loss of a batch.

use burn::tensor::{Int, Tensor, TensorData};
use foveal_anchors::ImageTargets;
use foveal_kernels::{ClassLoss, ClassLossParams, class_loss};

/// The class loss, each image weighted.
///
/// # Shapes
/// - logits: `[batch, anchors, classes]`
/// - weights: one an image, or a single one for the whole batch
pub(crate) fn weighted(
    logits: Tensor<3>,
    targets: &[ImageTargets],
    weights: &[f64],
    params: ClassLossParams,
) -> ClassLoss {
    let [batch, anchors, classes] = logits.dims();
    let device = logits.device();
    let ids = |t: &[ImageTargets]| -> Tensor<1, Int> {
        let ids: Vec<i32> = t.iter().flat_map(|t| t.classes.iter().copied()).collect();
        assert_eq!(ids.len(), t.len() * anchors, "targets belong to another anchor grid");
        let shape = [ids.len()];
        Tensor::from_data(TensorData::new(ids, shape), &device)
    };
    let scaled = |loss: ClassLoss, weight: f64| ClassLoss { loss: loss.loss * weight, sums: loss.sums * weight };
    if let [weight] = weights {
        return scaled(class_loss(logits.reshape([batch * anchors, classes]), ids(targets), params), *weight);
    }
    assert_eq!(weights.len(), batch, "one weight an image");
    let images = (0..batch).map(|i| {
        let rows = logits.clone().narrow(0, i, 1).reshape([anchors, classes]);
        scaled(class_loss(rows, ids(&targets[i..=i]), params), weights[i])
    });
    images.reduce(|a, b| ClassLoss { loss: a.loss + b.loss, sums: a.sums + b.sums }).expect("a batch has images")
}
