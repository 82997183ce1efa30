//! The order of the elements of a tensor in memory.
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Shape;

/// The axes of a tensor in the order of their memory. The last one has the smallest stride.
///
/// On a GPU, the gradient of the weight of a convolution is a permuted view of channels-last memory.
pub(super) struct Order {
    axes: Vec<usize>,
    /// The lengths of the axes, in the order of `axes`.
    shape: Shape,
}

impl Order {
    /// The order of `tensor`. If its elements have gaps or share memory, the order is still one of all its axes.
    pub(super) fn of(tensor: &CubeTensor) -> Self {
        let (shape, strides) = (tensor.shape(), tensor.meta.strides());
        let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
        axes.sort_by_key(|axis| std::cmp::Reverse(strides[*axis]));
        let lengths: Vec<usize> = axes.iter().map(|axis| shape[*axis]).collect();
        Self { axes, shape: lengths.into() }
    }

    /// The elements of `tensor` in this order, without gaps: `[elements]`. They are copied only if they lie in memory
    /// in another way.
    pub(super) fn flat(&self, tensor: CubeTensor) -> CubeTensor {
        let elements = self.shape.num_elements();
        CubeBackend::float_reshape(CubeBackend::float_permute(tensor, &self.axes), Shape::from([elements]))
    }

    /// The elements of `tensor` as [`Order::flat`] returns them, in memory that no other tensor shares.
    pub(super) fn flat_own(&self, tensor: CubeTensor) -> CubeTensor {
        let flat = self.flat(tensor);
        if flat.can_mut() { flat } else { flat.copy() }
    }

    /// The tensor whose elements in this order are `flat`, as a view of the same memory.
    pub(super) fn restored(&self, flat: CubeTensor) -> CubeTensor {
        let mut inverse = vec![0; self.axes.len()];
        for (place, axis) in self.axes.iter().enumerate() {
            inverse[*axis] = place;
        }
        CubeBackend::float_permute(CubeBackend::float_reshape(flat, self.shape.clone()), &inverse)
    }
}
