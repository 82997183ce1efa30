//! The normalisation of 8-bit images on a GPU, by a table with the normalised value of each byte.
use burn::tensor::{Device, Tensor};

/// Uploads a batch of 8-bit images to a GPU and normalises them there: each byte is replaced by the value that the
/// table of its channel has for it. The values are those of the table bit for bit, and the padding of each image is
/// exactly 0.
///
/// `packed` consists of little-endian words of 32 bits: the height and the width of each image in pixels without
/// padding (`[batch, 2]`, integers), the table (`[3, 256]`, the bits of `f32` values), and the pixels
/// (`[batch, height, width, 3]`, a byte each, row-major). Each image lies in the top left corner of its plane.
///
/// # Shapes
/// - dims: number of images, padded height and padded width in pixels
/// - result: `[batch, 3, height, width]`, in memory ordered as the bytes are, with the channels last
///
/// # Panics
/// If `device` is not a GPU, if `height * width` is not a multiple of 4, or if `packed` has another length.
pub fn normalise_bytes(dims: [usize; 3], packed: Vec<u8>, device: &Device) -> Tensor<4> {
    let [batch, height, width] = dims;
    let words = 2 * batch + 3 * 256 + batch * height * width * 3 / 4;
    assert!((height * width).is_multiple_of(4), "normalise_bytes: {height} x {width} pixels are not whole words");
    assert_eq!(packed.len(), words * 4, "normalise_bytes: bytes of {batch} images of {height} x {width} pixels");
    #[cfg(feature = "wgpu")]
    return match gpu::normalise_bytes(dims, packed, &device.clone().without_autodiff()) {
        images if device.is_autodiff() => images.autodiff(),
        images => images,
    };
    #[cfg(not(feature = "wgpu"))]
    panic!("normalise_bytes: {device:?} is not a GPU, and this build has no support for GPUs");
}

#[cfg(feature = "wgpu")]
mod gpu {
    use burn::backend::fusion::custom::TensorSpec;
    use burn::backend::ops::FloatTensorOps;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::wgpu::CubeBackend;
    use burn::backend::{Backend, Dispatch, backend_extension};
    use burn::tensor::{DType, Device, FloatDType, Int, Shape, Tensor, TensorData};
    use cubecl::prelude::*;

    pub(super) fn normalise_bytes(dims: [usize; 3], packed: Vec<u8>, device: &Device) -> Tensor<4> {
        let words = packed.len() / 4;
        let packed = TensorData::from_bytes_vec(packed, [words], DType::I32);
        let packed = Tensor::<1, Int>::from_data(packed, (device, DType::I32));
        let values = <Dispatch as ImageBytesOps>::normalise_bytes(packed.into_dispatch(), dims);
        let [batch, height, width] = dims;
        Tensor::<1>::from_dispatch(values).reshape([batch, height, width, 3]).permute([0, 3, 1, 2])
    }

    /// Extension of Burn's backend for GPUs by [`super::normalise_bytes`].
    #[backend_extension(Cube, Fusion)]
    trait ImageBytesOps: Backend {
        /// Looks up the normalised values of the bytes, `[batch * height * width * 3]`, with 0 in the padding.
        #[fusion(meta = |_packed, dims| TensorSpec::new([value_count(*dims)].into(), DType::F32))]
        fn normalise_bytes(packed: IntTensor<Self>, dims: [usize; 3]) -> FloatTensor<Self>;
    }

    /// Number of values of a batch.
    fn value_count([batch, height, width]: [usize; 3]) -> usize {
        batch * height * width * 3
    }

    impl ImageBytesOps for CubeBackend {
        fn normalise_bytes(packed: IntTensor<Self>, dims: [usize; 3]) -> FloatTensor<Self> {
            let [batch, height, width] = dims;
            let client = packed.client.clone();
            let values = Self::float_empty(Shape::from([value_count(dims)]), &packed.device, FloatDType::F32);
            let words = value_count(dims) / 4;
            let cube_dim = CubeDim::new(&client, words);
            let cube_count = cubecl::calculate_cube_count_elemwise(&client, words, cube_dim);
            // SAFETY: `packed` has 2 words for each image, 768 words of the table and `words` words of pixels, and
            // `values` four values for each of the latter (checked by the public function, whose tensors have one axis
            // and are thus contiguous). A unit reads one of these words and writes its four values, the units after the
            // last word do nothing, and an index into the table is a byte.
            unsafe {
                look_up::launch_unchecked(
                    &client,
                    cube_count,
                    cube_dim,
                    packed.into_buffer_arg(),
                    values.clone().into_buffer_arg(),
                    batch,
                    height,
                    width,
                    words,
                );
            }
            values
        }
    }

    /// Each unit looks up the four bytes of one word.
    #[cube(launch_unchecked)]
    fn look_up(packed: &[u32], values: &mut [f32], batch: usize, height: usize, width: usize, words: usize) {
        if ABSOLUTE_POS >= words {
            terminate!();
        }
        let table = 2 * batch;
        let word = packed[table + 768 + ABSOLUTE_POS];
        #[unroll]
        for k in 0..4u32 {
            let at = ABSOLUTE_POS * 4 + k as usize;
            let (pixel, channel) = (at / 3, at % 3);
            let (row, x) = (pixel / width, pixel % width);
            let (image, y) = (row / height, row % height);
            let inside = y < packed[2 * image] as usize && x < packed[2 * image + 1] as usize;
            let byte = (word >> (8 * k)) & 255;
            let value = f32::reinterpret(packed[table + channel * 256 + byte as usize]);
            values[at] = select(inside, value, 0.0f32);
        }
    }
}
