//! Parameter updates by tensor operations, without reading from the device. They are element-wise, so that Burn fuses
//! those of a parameter into one kernel and keeps the memory layout of the tensors.

use burn::tensor::{Bool, Tensor};

use super::{Rule, Tensors, Update};

/// Updates a parameter and its state with the gradient `g`, which is clipped. Nothing changes if `finite` is false.
///
/// # Shapes
/// - finite: one element
pub(super) fn update<const D: usize>(
    tensors: Tensors<D>,
    g: Tensor<D>,
    update: &Update,
    finite: &Tensor<D, Bool>,
) -> Tensors<D> {
    let Tensors { param, first, second } = tensors;
    let select = |new: Tensor<D>, old: Tensor<D>| old.mask_where(finite.clone(), new);
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
    let second = second.zip(new_second).map(|(old, new)| select(new, old));
    Tensors { param: select(new_param, param), first: select(new_first, first), second }
}
