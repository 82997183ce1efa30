//! Tensors with one element as operands of element-wise operations with parameters of any rank.

use burn::tensor::kind::Basic;
use burn::tensor::{DispatchTensor, Tensor};

/// Largest number of dimensions of a parameter.
const RANKS: usize = 4;

/// A tensor of shape `[1]` that takes part in the updates of all parameters.
///
/// Burn fuses the operations of an update into one kernel if an operand with one element has as many dimensions as the
/// parameter, but not if it is expanded to the shape of the parameter. It is reshaped once for each number of
/// dimensions, not for each parameter.
pub(crate) struct Broadcast<K: Basic> {
    tensor: Tensor<1, K>,
    by_rank: [Option<DispatchTensor>; RANKS],
}

impl<K: Basic> Broadcast<K> {
    /// # Shapes
    /// - tensor: `[1]`
    pub(crate) fn new(tensor: &Tensor<1, K>) -> Self {
        Self { tensor: tensor.clone(), by_rank: [const { None }; RANKS] }
    }

    /// The tensor with `D` dimensions of length 1, at most 4.
    pub(crate) fn of_rank<const D: usize>(&mut self) -> Tensor<D, K> {
        let reshaped = || self.tensor.clone().reshape([1; D]).into_dispatch();
        Tensor::from_dispatch(self.by_rank[D - 1].get_or_insert_with(reshaped).clone())
    }
}
