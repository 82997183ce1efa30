use foveal_detector::TorchvisionArch;

use super::*;

const MIB: u64 = 1 << 20;

fn model() -> ModelConfig {
    ModelConfig { class_channels: None, ..TorchvisionArch::V1.model() }
}

/// The demand of torchvision's RetinaNet v1 with 80 classes on images of 800x1344 pixels, with SGD.
fn demand_in(precision: ComputePrecision) -> Demand {
    let config = TrainConfig { precision, ..TrainConfig::default() };
    Demand::of_training(&config, &model(), 80, [800, 1344])
}

fn demand() -> Demand {
    demand_in(ComputePrecision::F32)
}

/// Maps and unfolded inputs are half as large in 16 bits; weights, logits and deltas stay in 32 bits.
#[test]
fn sixteen_bits_halve_the_feature_maps_and_nothing_else() {
    let limits = DeviceLimits { tensor_bytes: Some(i32::MAX as u64), memory_bytes: None };
    let wide = demand();
    let logits = 2 * F32 * 201_600 * (80 + 4);
    for precision in [ComputePrecision::F16, ComputePrecision::Bf16] {
        let half = demand_in(precision);
        assert_eq!(half.most(limits, 1.0), Some(27));
        assert_eq!(half.check("train.batch_size", 16, limits), Ok(()));
        assert_eq!(half.fixed, wide.fixed);
        assert_eq!(2 * (half.per_image - logits), wide.per_image - logits);

        let of = |precision| Demand::of_inference(&model(), 80, [800, 1344], precision);
        let (half, wide) = (of(precision), of(ComputePrecision::F32));
        assert_eq!((half.fixed, 2 * half.tensor.per_image), (wide.fixed, wide.tensor.per_image));
        assert_eq!(2 * (half.per_image - logits / 2), wide.per_image - logits / 2);
    }
    // The logits are the largest tensor where the maps are small enough.
    let narrow = ModelConfig { base_width: 8, fpn_channels: 16, ..model() };
    let largest = |precision| Demand::of_inference(&narrow, 80, [800, 1344], precision).tensor;
    assert!(largest(ComputePrecision::F16).what.starts_with("the class logits"));
    assert_eq!(largest(ComputePrecision::F16), largest(ComputePrecision::F32));
}

/// The stem unfolds its input only for the gradient of its weight, which inference does not compute.
#[test]
fn inference_is_not_refused_for_a_tensor_of_training() {
    let narrow = ModelConfig { base_width: 16, fpn_channels: 64, freeze_stages: 0, ..model() };
    let size = [800, 1344];
    let training = Demand::of_training(&TrainConfig::default(), &narrow, 3, size);
    assert_eq!(training.tensor.what, "the unfolded input of the convolution backbone.body.conv1");
    let limits = DeviceLimits { tensor_bytes: Some(14 * training.tensor.per_image - 1), memory_bytes: None };
    assert_eq!(training.check("train.batch_size", 14, limits).unwrap_err().most, 13);
    assert_eq!(InferenceCheck::new(&narrow, 3, limits, ComputePrecision::F32).check(14, size), Ok(()));
}

#[test]
fn no_batch_is_larger_than_the_data_set() {
    let demand = demand();
    let limits = DeviceLimits { tensor_bytes: None, memory_bytes: Some(demand.memory(5)) };
    assert_eq!(demand.check_of_set("eval.batch_size", 64, 5, limits), Ok(()));
    // The message is about the setting.
    let error = demand.check_of_set("eval.batch_size", 64, 6, limits).unwrap_err();
    assert_eq!((error.batch, error.most), (64, 5));
}

/// The stem's unfolded input has `400 * 672 * 147` values for an image: 13 of them fit into 2 GiB - 1.
#[test]
fn a_tensor_beyond_the_binding_limit_is_refused_with_the_largest_batch() {
    let limits = DeviceLimits { tensor_bytes: Some(i32::MAX as u64), memory_bytes: None };
    assert_eq!(demand().check("train.batch_size", 13, limits), Ok(()));
    let error = demand().check("train.batch_size", 16, limits).unwrap_err();
    assert_eq!(error.most, 13);
    assert_eq!(
        error.to_string(),
        "train.batch_size: expected at most 13 for images of 800x1344 pixels on this device, found 16: with 16 \
         images, the unfolded input of the convolution backbone.body.conv1 takes 2.36 GiB, but the device binds \
         buffers of at most 2.00 GiB. Set train.batch_size = 13 and raise train.accumulate to keep the size of an \
         update, or lower data.min_size and data.max_size (or data.fixed_size)"
    );
}

#[test]
fn a_batch_beyond_the_memory_is_refused_with_the_largest_batch() {
    let demand = demand();
    let limits = DeviceLimits { tensor_bytes: None, memory_bytes: Some(demand.memory(5) + 1) };
    assert_eq!(demand.check("eval.batch_size", 5, limits), Ok(()));
    let error = demand.check("eval.batch_size", 6, limits).unwrap_err();
    assert_eq!((error.most, error.batch), (5, 6));
    let text = error.to_string();
    assert!(text.contains("6 images need at least ") && text.contains("Set eval.batch_size = 5, or "), "{text}");
    assert_eq!(demand.most(limits, 2.0), Some(2));
    assert_eq!(demand.most(DeviceLimits::default(), 1.0), None);
}

#[test]
fn a_batch_of_inference_is_compared_with_the_limits() {
    let limits = DeviceLimits { tensor_bytes: Some(100 * MIB), memory_bytes: None };
    let mut check = InferenceCheck::new(&model(), 80, limits, ComputePrecision::F32);
    assert_eq!(check.check(1, [320, 320]), Ok(()));
    let refused = check.check(16, [320, 320]).unwrap_err();
    assert_eq!((refused.key, refused.most > 1, refused.size), ("eval.batch_size", true, [320, 320]));
    assert_eq!(check.check(refused.most, [320, 320]), Ok(()));
    assert_eq!(check.check(1, [800, 1344]).unwrap_err().most, 0);
    let mut unlimited = InferenceCheck::new(&model(), 80, DeviceLimits::default(), ComputePrecision::F32);
    assert_eq!(unlimited.check(4096, [800, 1344]), Ok(()));
}

#[test]
fn a_device_on_which_no_image_fits_asks_for_smaller_images() {
    let limits = DeviceLimits { tensor_bytes: Some(MIB), memory_bytes: Some(MIB) };
    let text = demand().check("train.batch_size", 1, limits).unwrap_err().to_string();
    assert!(text.starts_with("train.batch_size: not even one image of 800x1344 pixels fits on this device"), "{text}");
    assert!(text.ends_with("To go on, lower data.min_size and data.max_size (or data.fixed_size)"), "{text}");
}
