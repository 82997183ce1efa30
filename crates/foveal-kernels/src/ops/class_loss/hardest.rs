//! The selection of the background anchors with the highest cost, for losses that leave the others out.
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Int, IntDType, Tensor, TensorData};

use super::{BACKGROUND, IGNORE};
use crate::cpu::{CpuBackend, CpuTensor};

/// Sets to [`IGNORE`] the background anchors of an image that are not among the `count` anchors with the highest cost.
/// Of equal costs, the first anchors are kept. Costs are compared by [`f32::total_cmp`].
///
/// # Shapes
/// `ids` and `costs` have one value per anchor of the image; each id is a class, [`BACKGROUND`] or [`IGNORE`].
pub fn keep_hardest(ids: &mut [i32], costs: &[f32], count: usize) {
    let mut background: Vec<usize> = (0..ids.len()).filter(|i| ids[*i] == BACKGROUND).collect();
    if count >= background.len() {
        return;
    }
    if count > 0 {
        background.select_nth_unstable_by(count - 1, |a, b| costs[*b].total_cmp(&costs[*a]).then(a.cmp(b)));
    }
    background[count..].iter().for_each(|i| ids[*i] = IGNORE);
}

/// Selects as [`keep_hardest`] does for each image, on the device, without a transfer to the host. Returns the new ids,
/// `[images * anchors]`. The result carries no gradient.
///
/// # Shapes
/// - costs: `[images, anchors]`
/// - ids: `[images * anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`]
/// - keep: the number of background anchors that are kept in each image, `[images]`
///
/// # Panics
/// If the shapes do not fit.
pub fn keep_hardest_on_device(costs: Tensor<2>, ids: Tensor<1, Int>, keep: Tensor<1, Int>) -> Tensor<1, Int> {
    let [images, anchors] = costs.dims();
    assert_eq!(ids.dims(), [images * anchors], "hardest anchors: there must be one id per anchor");
    assert_eq!(keep.dims(), [images], "hardest anchors: there must be one number of anchors to keep per image");
    Tensor::from_dispatch(<Dispatch as HardestOps>::keep_hardest(
        costs.without_autodiff().into_dispatch(),
        ids.without_autodiff().into_dispatch(),
        keep.without_autodiff().into_dispatch(),
    ))
}

/// Extension of Burn's backends by [`keep_hardest_on_device`].
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
pub(super) trait HardestOps: Backend {
    /// Selects the hardest background anchors of each image.
    #[fusion(meta = kept_spec)]
    fn keep_hardest(costs: FloatTensor<Self>, ids: IntTensor<Self>, keep: IntTensor<Self>) -> IntTensor<Self>;
}

#[cfg(feature = "wgpu")]
type TensorSpec = burn::backend::fusion::custom::TensorSpec;

/// The shape and data type of the result: those of the ids, as `i32`.
#[cfg(feature = "wgpu")]
fn kept_spec(_costs: &TensorSpec, ids: &TensorSpec, _keep: &TensorSpec) -> TensorSpec {
    TensorSpec::new(ids.shape.clone(), burn::tensor::DType::I32)
}

#[cfg(feature = "wgpu")]
impl HardestOps for burn::backend::wgpu::CubeBackend {
    fn keep_hardest(costs: FloatTensor<Self>, ids: IntTensor<Self>, keep: IntTensor<Self>) -> IntTensor<Self> {
        super::gpu::keep_hardest(costs, ids, keep)
    }
}

impl<B: CpuBackend> HardestOps for B {
    fn keep_hardest(costs: FloatTensor<Self>, ids: IntTensor<Self>, keep: IntTensor<Self>) -> IntTensor<Self> {
        let device = costs.device();
        let [images, anchors] = costs.sizes();
        let (costs, dtype) = (Self::float_cast(costs, FloatDType::F32).contiguous(), ids.dtype());
        // The integers of ndarray may be i64.
        let int = |t: IntTensor<Self>| Self::int_cast(t, IntDType::I32).contiguous();
        let (ids, keep) = (int(ids), int(keep));
        let mut kept = ids.i32s().to_vec();
        for image in 0..images {
            let of_image = image * anchors..(image + 1) * anchors;
            let count = usize::try_from(keep.i32s()[image]).expect("the number of anchors to keep is not negative");
            keep_hardest(&mut kept[of_image.clone()], &costs.f32s()[of_image], count);
        }
        let shape = [kept.len()];
        Self::int_cast(Self::int_from_data(TensorData::new(kept, shape), &device), dtype.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_hardest_stay() {
        let mut ids = [BACKGROUND, 3, BACKGROUND, IGNORE, BACKGROUND, BACKGROUND];
        keep_hardest(&mut ids, &[0.1, 9.0, 0.3, 9.0, 0.3, 0.3], 2);
        assert_eq!(ids, [IGNORE, 3, BACKGROUND, IGNORE, BACKGROUND, IGNORE]);
        keep_hardest(&mut ids, &[0.0; 6], 7);
        assert_eq!(ids, [IGNORE, 3, BACKGROUND, IGNORE, BACKGROUND, IGNORE]);
        keep_hardest(&mut ids, &[0.0; 6], 0);
        assert_eq!(ids, [IGNORE, 3, IGNORE, IGNORE, IGNORE, IGNORE]);
    }

    #[test]
    #[allow(deprecated)] // burn-ndarray is deprecated upstream and supported here
    fn each_image_keeps_its_own() {
        let ids = [BACKGROUND, BACKGROUND, 1, BACKGROUND, IGNORE, BACKGROUND];
        for device in [Device::flex().autodiff(), Device::ndarray()] {
            let costs = Tensor::<2>::from_data([[0.5, 0.7, 9.0], [0.1, 9.0, 0.1]], &device);
            let ids = Tensor::<1, Int>::from_data(ids, &device);
            let kept = keep_hardest_on_device(costs, ids, Tensor::from_data([1, 1], &device));
            let kept = kept.into_data().convert::<i32>().try_to_vec::<i32>().expect("integers");
            assert_eq!(kept, [IGNORE, BACKGROUND, 1, BACKGROUND, IGNORE, IGNORE]);
        }
    }
}
