//! Conversion between contiguous slices and tensors of the two CPU backends.
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ndarray::NdArrayTensor;
use burn::backend::{Backend, BackendTypes, Flex, NdArray, TensorMetadata};
use burn::tensor::{Bytes, DType, Shape, TensorData};

/// A backend whose tensors the fused kernels read and write as slices.
pub(crate) trait CpuBackend:
    Backend + BackendTypes<FloatTensorPrimitive: CpuTensor, IntTensorPrimitive: CpuTensor>
{
}

impl CpuBackend for Flex {}
impl CpuBackend for NdArray {}

/// A tensor in host memory.
pub(crate) trait CpuTensor: TensorMetadata + Clone + Sized + Send + Sync + 'static {
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
    /// The shape of a tensor of rank `D`.
    fn sizes<const D: usize>(&self) -> [usize; D] {
        self.shape().dims()
    }
}

impl CpuTensor for FlexTensor {
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
