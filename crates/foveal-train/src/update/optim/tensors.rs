//! Parameter updates by tensor operations, without reading from the device.

use burn::tensor::Tensor;

use super::{Rule, Tensors, Update};
use crate::update::Clipping;

/// Updates a parameter and its state. Nothing changes if [`Clipping::finite`] is false.
pub(super) fn update(tensors: Tensors, update: &Update, clipping: &Clipping) -> Tensors {
    let Tensors { param, grad, first, second } = tensors;
    let length = param.dims();
    let keep = clipping.finite.clone().expand(length);
    let select = |new: Tensor<1>, old: &Tensor<1>| old.clone().mask_where(keep.clone(), new);
    let g = grad.clone() * clipping.factor.clone().expand(length);
    let (new_param, new_first, new_second) = match (update.rule, &second) {
        (Rule::AdamW { betas: [b1, b2], eps }, Some(second)) => {
            let correction = [b1, b2].map(|b| 1.0 - b.powf(update.count as f64));
            let m = first.clone() * b1 + g.clone() * (1.0 - b1);
            let v = second.clone() * b2 + g.square() * (1.0 - b2);
            let root = v.clone().sqrt() / correction[1].sqrt() + eps;
            let decayed = param.clone() * (1.0 - update.lr * update.weight_decay);
            (decayed - m.clone() / root * (update.lr / correction[0]), m, Some(v))
        }
        (Rule::Sgd { momentum }, _) => {
            let m = first.clone() * momentum + g + param.clone() * update.weight_decay;
            (param.clone() - m.clone() * update.lr, m, None)
        }
        (Rule::AdamW { .. }, None) => unreachable!("AdamW has a second moment"),
    };
    let second = second.zip(new_second).map(|(old, new)| select(new, &old));
    Tensors { param: select(new_param, &param), grad, first: select(new_first, &first), second }
}
