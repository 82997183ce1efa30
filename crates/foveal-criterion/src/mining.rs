//! Online hard example mining: only the background anchors that cost most take part in the loss.
//!
//! The paper compares with OHEM (Shrivastava et al., arXiv 1604.03540) with a fixed ratio of negatives to positives, as
//! SSD has it (Liu et al., arXiv 1512.02325, section 2.2): negatives are sorted by their loss, and so many of the first
//! are kept that they are `ratio` times the positives. An example is an anchor, with the sum of its classes' losses. It is
//! done for each image, so that accumulated batches choose as one batch does.

use burn::tensor::Tensor;
use foveal_kernels::{BACKGROUND, IGNORE};

/// Leaves out of `ids` (`[batch * anchors]`) the background anchors that are not among each image's hardest; an image
/// without positives keeps as many as one with a single one. Reads a cost for each anchor from the device.
pub(crate) fn keep_hardest(logits: &Tensor<3>, ids: &mut [i32], ratio: f64) {
    let [_, anchors, _] = logits.dims();
    let x = logits.clone().without_autodiff();
    // Cross entropy of background: softplus of each logit.
    let cost = (x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()).sum_dim(2);
    // Waits for the device: which anchors take part is decided on the host, like all targets.
    let cost: Vec<f32> = cost.into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
    for (ids, cost) in ids.chunks_mut(anchors.max(1)).zip(cost.chunks(anchors.max(1))) {
        let positives = ids.iter().filter(|id| **id >= 0).count();
        keep(ids, cost, (ratio * positives.max(1) as f64).round() as usize);
    }
}

/// Keeps `count` of an image's background anchors; among equals those that come first.
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
