//! Online hard example mining: of the background anchors, only those with the highest loss take part in the loss.
//!
//! This is OHEM (Shrivastava et al., arXiv 1604.03540) with a fixed ratio of negatives to positives, as in SSD (Liu et
//! al., arXiv 1512.02325, section 2.2) and in the comparison of arXiv 1708.02002, section 5.1: the negatives are sorted
//! by their loss, and the first of them are kept, `ratio` for each positive. An example is an anchor; its loss is the
//! sum over the classes. The selection is made for each image, so that it does not depend on how images are accumulated
//! in batches.

use burn::tensor::Tensor;
use foveal_kernels::{BACKGROUND, IGNORE};

/// Sets to [`IGNORE`] the background anchors in `ids` (`[batch * anchors]`) that are not among the hardest of their
/// image. An image without positives keeps as many background anchors as an image with one positive. Reads one number
/// per anchor from the device. `logits` is `[batch, anchors, classes]`.
pub(crate) fn keep_hardest(logits: &Tensor<3>, ids: &mut [i32], ratio: f64) {
    let [_, anchors, _] = logits.dims();
    let x = logits.clone().without_autodiff();
    // The cross entropy of background is the softplus of each logit.
    let cost = (x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()).sum_dim(2);
    // This waits for the device, because the host decides which anchors take part, as for all targets.
    let cost: Vec<f32> = cost.into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
    for (ids, cost) in ids.chunks_mut(anchors.max(1)).zip(cost.chunks(anchors.max(1))) {
        let positives = ids.iter().filter(|id| **id >= 0).count();
        keep(ids, cost, (ratio * positives.max(1) as f64).round() as usize);
    }
}

/// Keeps the `count` background anchors of an image that have the highest cost; of equal costs, the first anchors.
fn keep(ids: &mut [i32], cost: &[f32], count: usize) {
    let mut background: Vec<usize> = (0..ids.len()).filter(|i| ids[*i] == BACKGROUND).collect();
    if count >= background.len() {
        return;
    }
    if count > 0 {
        background.select_nth_unstable_by(count - 1, |a, b| cost[*b].total_cmp(&cost[*a]).then(a.cmp(b)));
    }
    background[count..].iter().for_each(|i| ids[*i] = IGNORE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardest_stay() {
        let mut ids = [BACKGROUND, 3, BACKGROUND, IGNORE, BACKGROUND, BACKGROUND];
        keep(&mut ids, &[0.1, 9.0, 0.3, 9.0, 0.3, 0.3], 2);
        assert_eq!(ids, [IGNORE, 3, BACKGROUND, IGNORE, BACKGROUND, IGNORE]);
        keep(&mut ids, &[0.0; 6], 7);
        assert_eq!(ids, [IGNORE, 3, BACKGROUND, IGNORE, BACKGROUND, IGNORE]);
        keep(&mut ids, &[0.0; 6], 0);
        assert_eq!(ids, [IGNORE, 3, IGNORE, IGNORE, IGNORE, IGNORE]);
    }
}
