//! Conversion between contiguous slices and tensors of the two CPU backends.
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ndarray::NdArrayTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Backend, BackendTypes, Flex, NdArray, TensorMetadata};
use burn::tensor::{Bytes, DType, Shape, TensorData};
use rayon::prelude::*;

use super::parallel::{GRAIN, SharedMut};

/// Side of the squares that are transposed at a time: two of them fit into the first-level cache.
const SIDE: usize = 32;

/// A backend whose tensors the fused kernels read and write as slices.
pub(crate) trait CpuBackend:
    Backend + BackendTypes<FloatTensorPrimitive: CpuTensor, IntTensorPrimitive: CpuTensor>
{
}

impl CpuBackend for Flex {}
impl CpuBackend for NdArray {}

/// A tensor in host memory.
pub(crate) trait CpuTensor: TensorMetadata + Clone + Sized + Send + Sync {
    /// The tensor with its values in row-major order and nothing else in its buffer. Copies only if necessary.
    fn contiguous(self) -> Self;
    /// All elements of a [`contiguous`](Self::contiguous) `f32` tensor.
    fn f32s(&self) -> &[f32];
    /// All elements of a contiguous `f32` tensor for writing; `None` if somebody else holds its buffer too.
    fn f32s_mut(&mut self) -> Option<&mut [f32]>;
    /// All elements of a contiguous `i32` tensor.
    fn i32s(&self) -> &[i32];
    /// Creates a row-major tensor of the given shape from `values`, without a copy.
    fn from_shape(values: Vec<f32>, shape: Shape) -> Self;
    /// Creates a row-major tensor of the shape `dims` from `values`, without a copy.
    fn from_f32s<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> Self {
        Self::from_shape(values, Shape::from(dims))
    }
    /// Whether the values are in row-major order with nothing else in the buffer.
    fn is_row_major(&self) -> bool;
    /// The tensor with its axes in another order, without a copy.
    fn permuted(self, axes: &[usize]) -> Self;

    /// A row-major tensor with another shape of as many elements, without a copy.
    fn reshaped(self, shape: Shape) -> Self;

    /// A map `[batch, channels, height, width]` as a row-major tensor `[batch, height, width, channels]`, or maps
    /// `[batch, channels, pixels]` as `[batch, pixels, channels]`. Copies only if the channels are not last in memory.
    fn into_nhwc(self) -> Self {
        let rank = self.rank();
        let view = self.permuted(&channels_last_axes(rank));
        if view.is_row_major() {
            return view;
        }
        let nhwc = view.shape();
        let source = view.permuted(&channels_second_axes(rank)).contiguous();
        let shape = source.shape();
        let (batch, channels) = (shape[0], shape[1]);
        let pixels = shape.num_elements() / (batch * channels).max(1);
        Self::from_shape(swapped(source.f32s(), batch, channels, pixels), nhwc)
    }

    /// The inverse of [`into_nhwc`](Self::into_nhwc), without a copy: the axes are permuted, the memory stays the same.
    fn from_nhwc(self) -> Self {
        let rank = self.rank();
        self.permuted(&channels_second_axes(rank))
    }

    /// The shape of a tensor of rank `D`.
    fn sizes<const D: usize>(&self) -> [usize; D] {
        self.shape().dims()
    }
}

/// The order of axes that puts the channels, axis 1, last.
fn channels_last_axes(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

/// The order of axes that puts the channels, the last axis, second.
fn channels_second_axes(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

/// Swaps rows and columns of row-major matrices `[batch, rows, columns]`.
pub(crate) fn swapped(values: &[f32], batch: usize, rows: usize, columns: usize) -> Vec<f32> {
    let matrix = rows * columns;
    assert_eq!(values.len(), batch * matrix);
    let mut out: Vec<f32> = Vec::with_capacity(values.len());
    let to = SharedMut::uninit(&mut out.spare_capacity_mut()[..values.len()]);
    let strips = columns.div_ceil(SIDE);
    (0..batch * strips).into_par_iter().with_min_len(GRAIN.div_ceil(SIDE * rows.max(1))).for_each(|task| {
        let (image, first) = (task / strips, task % strips * SIDE);
        let (from, last) = (&values[image * matrix..][..matrix], (first + SIDE).min(columns));
        for row in (0..rows).step_by(SIDE) {
            let block = row..(row + SIDE).min(rows);
            for column in first..last {
                // SAFETY: only this task writes rows `first..last` of this image's result, which lie within the buffer.
                let to = unsafe { to.at(image * matrix + column * rows) };
                for r in block.clone() {
                    // SAFETY: element `r` of that row lies within the buffer.
                    unsafe { to.add(r).write(from[r * columns + column]) };
                }
            }
        }
    });
    // SAFETY: the strips cover every column of every image, and each column was written in all rows.
    unsafe { out.set_len(values.len()) };
    out
}

impl CpuTensor for FlexTensor {
    fn is_row_major(&self) -> bool {
        self.layout().contiguous_offsets() == Some((0, self.storage::<f32>().len()))
    }

    fn permuted(self, axes: &[usize]) -> Self {
        Flex::float_permute(self, axes)
    }

    fn reshaped(self, shape: Shape) -> Self {
        Flex::float_reshape(self, shape)
    }

    fn contiguous(self) -> Self {
        // `to_contiguous` returns a second handle. Ours is dropped, so that a unique buffer stays unique.
        let contiguous = self.to_contiguous();
        drop(self);
        contiguous
    }

    fn f32s(&self) -> &[f32] {
        self.storage()
    }

    fn f32s_mut(&mut self) -> Option<&mut [f32]> {
        self.try_storage_mut()
    }

    fn i32s(&self) -> &[i32] {
        self.storage()
    }

    fn from_shape(values: Vec<f32>, shape: Shape) -> Self {
        debug_assert_eq!(values.len(), shape.num_elements());
        FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
    }
}

impl CpuTensor for NdArrayTensor {
    fn is_row_major(&self) -> bool {
        matches!(self, Self::F32(s) if s.view().is_standard_layout())
    }

    fn permuted(self, axes: &[usize]) -> Self {
        NdArray::float_permute(self, axes)
    }

    fn reshaped(self, shape: Shape) -> Self {
        NdArray::float_reshape(self, shape)
    }

    // burn-ndarray keeps its storage type private, but its methods work on the matched value.
    fn contiguous(self) -> Self {
        match self {
            Self::F32(s) if s.view().is_standard_layout() => Self::F32(s),
            Self::F32(s) => s.view().as_standard_layout().into_owned().into_shared().into(),
            Self::I32(s) if s.view().is_standard_layout() => Self::I32(s),
            Self::I32(s) => s.view().as_standard_layout().into_owned().into_shared().into(),
            other => panic!("expected an f32 or i32 tensor, found {:?}", other.dtype()),
        }
    }

    fn f32s(&self) -> &[f32] {
        match self {
            Self::F32(s) => s.view().to_slice().expect("a contiguous tensor"),
            other => panic!("expected an f32 tensor, found {:?}", other.dtype()),
        }
    }

    fn f32s_mut(&mut self) -> Option<&mut [f32]> {
        match self {
            Self::F32(s) if s.is_unique() => s.ensure_owned().as_slice_mut(),
            _ => None,
        }
    }

    fn i32s(&self) -> &[i32] {
        match self {
            Self::I32(s) => s.view().to_slice().expect("a contiguous tensor"),
            other => panic!("expected an i32 tensor, found {:?}", other.dtype()),
        }
    }

    fn from_shape(values: Vec<f32>, shape: Shape) -> Self {
        // Neither `new` nor `from_data` copies the vector.
        NdArrayTensor::from_data(TensorData::new(values, shape))
    }
}
