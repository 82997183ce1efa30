//! What a GPU computes of inference by kernels of its own, against the host: the picking of candidates and the
//! normalisation of images, on tiny shapes. Both must be equal bit for bit.
//!
//! Without an adapter these tests fail; `scripts` sets up a software one.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData, Transaction};
use foveal_anchors::Anchors;
use foveal_boxes::BBox;
use foveal_detector::{
    ClassChannels, Dense, Detection, ImageFrame, NonFiniteOutput, PostprocessConfig, image_tensor, postprocess,
    postprocess_with,
};
use foveal_image::{ImageBatch, Preprocess, RgbImage};
use foveal_kernels::{Candidate, CandidateOptions, ImageCandidates, pick_candidates};

const IMAGES: usize = 2;
/// First anchor of each level, and the number of anchors.
const LEVELS: [usize; 4] = [0, 400, 500, 513];
const ANCHORS: usize = LEVELS[3];
const CHANNELS: usize = 3;
const FRAME: ImageFrame = ImageFrame { width: 90, height: 70, original_width: 180, original_height: 70 };

/// The default adapter.
fn wgpu() -> Device {
    foveal_kernels::test_adapter()
}

/// Logits and deltas of a batch in host memory.
#[derive(Clone)]
struct Outputs {
    logits: Vec<f32>,
    deltas: Vec<f32>,
}

impl Outputs {
    /// Logits from `low` to `high`, of which many are equal.
    fn new(low: f32, high: f32) -> Self {
        let random = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503) >> 22;
        let value = |i, low: f32, high: f32| low + (high - low) * random(i) as f32 / 1023.0;
        let (pairs, values) = ((IMAGES * ANCHORS * CHANNELS) as u32, (IMAGES * ANCHORS * 4) as u32);
        Self {
            logits: (0..pairs).map(|i| value(i, low, high)).collect(),
            deltas: (pairs..pairs + values).map(|i| value(i, -0.4, 0.4)).collect(),
        }
    }

    fn dense(&self, device: &Device) -> Dense {
        let tensor = |values: &[f32], columns| {
            Tensor::from_data(TensorData::new(values.to_vec(), [IMAGES, ANCHORS, columns]), device)
        };
        Dense { logits: tensor(&self.logits, CHANNELS), deltas: tensor(&self.deltas, 4), grids: Vec::new() }
    }
}

/// The same tensor with its values in another order in memory.
fn permuted(x: Tensor<3>) -> Tensor<3> {
    let [images, anchors, columns] = x.dims();
    let flat = x.permute([2, 1, 0]).reshape([columns * anchors * images]);
    flat.reshape([columns, anchors, images]).permute([2, 1, 0])
}

fn anchors() -> Anchors {
    let boxes = (0..ANCHORS).map(|i| {
        let (x, y) = ((i % 23 * 4) as f32, (i / 23 * 3) as f32);
        BBox::new(x, y, x + 12.0 + (i % 3) as f32, y + 10.0)
    });
    Anchors { level_offsets: LEVELS.to_vec(), anchors_per_location: 1, boxes: boxes.collect(), grids: Vec::new() }
}

fn detect(
    dense: &Dense,
    config: &PostprocessConfig,
    channels: Option<&ClassChannels>,
) -> Result<Vec<Vec<Detection>>, NonFiniteOutput> {
    postprocess(dense, &anchors(), &[FRAME; IMAGES], config, channels)
}

fn candidates(dense: &Dense, options: &CandidateOptions) -> Vec<ImageCandidates> {
    let picked = pick_candidates(dense.logits.clone(), dense.deltas.clone(), options).expect("the device is a GPU");
    let data = Transaction::default().register(picked.headers).register(picked.records).execute();
    let [headers, records] = [0, 1].map(|i| data[i].clone().try_to_vec::<i32>().expect("integers"));
    ImageCandidates::parse(&headers, &records)
}

fn options(cut: f32, per_level: usize, capacity: usize) -> CandidateOptions {
    let has_class = vec![true, false, true];
    CandidateOptions { level_ends: LEVELS[1..].to_vec(), has_class, cut, per_level, capacity }
}

#[test]
fn wgpu_detections_are_those_of_the_host() {
    let (gpu, cpu) = (wgpu(), Device::flex());
    let channels = ClassChannels { count: CHANNELS, of_class: vec![2, 0] };
    // Few logits above the threshold, many, and so large ones that their scores are equal.
    for outputs in [Outputs::new(-9.0, -2.0), Outputs::new(-3.0, 2.0), Outputs::new(-95.0, 40.0)] {
        let (on_gpu, on_cpu) = (outputs.dense(&gpu), outputs.dense(&cpu));
        let strided = Dense {
            logits: permuted(on_gpu.logits.clone()),
            deltas: permuted(on_gpu.deltas.clone()),
            ..on_gpu.clone()
        };
        for (threshold, pre_nms) in [(0.05, 60), (0.0, 60), (0.0, 3), (0.6, 1), (1.0, 60)] {
            let config =
                PostprocessConfig { score_threshold: threshold, pre_nms, nms: 0.6, ..PostprocessConfig::default() };
            for channels in [None, Some(&channels)] {
                let expected = detect(&on_cpu, &config, channels).unwrap();
                for dense in [&on_gpu, &strided] {
                    let found = detect(dense, &config, channels).unwrap();
                    assert_eq!(found, expected, "threshold {threshold}, pre_nms {pre_nms}");
                }
            }
        }
    }
}

#[test]
fn wgpu_list_has_all_pairs_that_are_needed_and_few_others() {
    let gpu = wgpu();
    let outputs = Outputs::new(-95.0, 40.0);
    for (cut, per_level) in [(-3.0, 5), (f32::NEG_INFINITY, 40), (12.0, 5), (39.0, 40), (41.0, 5)] {
        let lists = candidates(&outputs.dense(&gpu), &options(cut, per_level, 400));
        for (image, list) in lists.iter().enumerate() {
            let ImageCandidates::Found(found) = list else { panic!("{list:?}") };
            let logit = |pair: u32| outputs.logits[image * ANCHORS * CHANNELS + pair as usize];
            for level in LEVELS.windows(2) {
                let pairs = (level[0] * CHANNELS) as u32..(level[1] * CHANNELS) as u32;
                let mut wanted: Vec<u32> =
                    pairs.clone().filter(|pair| pair % 3 != 1 && logit(*pair) > cut.max(-90.0)).collect();
                wanted.sort_by(|a, b| logit(*b).min(17.0).total_cmp(&logit(*a).min(17.0)));
                let of_level: Vec<&Candidate> = found.iter().filter(|c| pairs.contains(&c.pair)).collect();
                let last = wanted.get(per_level.min(wanted.len()).wrapping_sub(1)).map(|pair| logit(*pair).min(17.0));
                // All pairs down to the last one that is needed, and none far below it.
                let needed = wanted.iter().filter(|pair| last.is_some_and(|last| logit(**pair) >= last)).count();
                let lowest = last.map_or(f32::INFINITY, |last| last.min(10.0) - 0.2);
                assert!(of_level.len() >= needed, "{} of {needed}", of_level.len());
                assert!(of_level.iter().all(|c| wanted.contains(&c.pair) && c.logit >= lowest), "cut {cut}");
            }
            for c in found {
                let first = (image * ANCHORS + c.pair as usize / CHANNELS) * 4;
                assert_eq!((c.logit, c.delta.as_slice()), (logit(c.pair), &outputs.deltas[first..first + 4]));
            }
        }
    }
}

#[test]
fn wgpu_list_that_is_too_short_is_reported_and_all_outputs_are_read() {
    let (gpu, cpu) = (wgpu(), Device::flex());
    let mut outputs = Outputs::new(-9.0, -6.0);
    // All pairs of the second image have the same score.
    outputs.logits[ANCHORS * CHANNELS..].fill(0.25);
    let lists = candidates(&outputs.dense(&gpu), &options(-3.0, 5, 30));
    assert_eq!(lists, [ImageCandidates::Found(Vec::new()), ImageCandidates::Overflow]);
    let config = PostprocessConfig { pre_nms: 5, ..PostprocessConfig::default() };
    let [found, expected] = [&gpu, &cpu].map(|device| detect(&outputs.dense(device), &config, None).unwrap());
    assert_eq!(found, expected);
    assert!(!found[1].is_empty());
}

#[test]
fn wgpu_outputs_that_are_not_finite_are_found() {
    let gpu = wgpu();
    let good = Outputs::new(-9.0, -2.0);
    let config = PostprocessConfig { pre_nms: 5, ..PostprocessConfig::default() };
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for in_deltas in [false, true] {
            let mut outputs = good.clone();
            // In the last image, at the last value.
            *(if in_deltas { outputs.deltas.last_mut() } else { outputs.logits.last_mut() }).unwrap() = bad;
            assert_eq!(detect(&outputs.dense(&gpu), &config, None).unwrap_err().images, [1], "{bad}");
            let lists = candidates(&outputs.dense(&gpu), &options(-3.0, 5, 400));
            assert!(matches!(lists[..], [ImageCandidates::Found(_), ImageCandidates::NonFinite]), "{bad}: {lists:?}");
        }
    }
}

#[test]
fn wgpu_scalars_are_read_with_the_detections() {
    let gpu = wgpu();
    let dense = Outputs::new(-9.0, -2.0).dense(&gpu);
    let scalars = [Tensor::<1>::from_floats([1.5], &gpu), Tensor::<1>::from_floats([-2.5], &gpu)];
    for pre_nms in [5, 100_000] {
        let config = PostprocessConfig { pre_nms, ..PostprocessConfig::default() };
        let (found, values) =
            postprocess_with(&dense, &anchors(), &[FRAME; IMAGES], &config, None, scalars.clone()).unwrap();
        assert_eq!(values, [1.5, -2.5]);
        assert_eq!(found, detect(&dense, &config, None).unwrap());
    }
}

#[test]
fn wgpu_images_are_normalised_as_on_the_host() {
    let gpu = wgpu();
    let preprocess = Preprocess::default();
    let image = |width: u32, height: u32| {
        RgbImage::from_fn(width, height, |x, y| [x, y, x * y].map(|v| (v.wrapping_mul(40_503) >> 5) as u8).into())
    };
    // Widths that are no multiples of four bytes, and an image of one pixel.
    let staged = [(37, 20), (33, 41), (1, 1)].map(|(w, h)| preprocess.stage_at(image(w, h), w, h));
    let batch = ImageBatch::stack(&staged, &preprocess);
    assert!(matches!(batch, ImageBatch::Bytes(_)));
    let expected = batch.clone().into_normalised();
    assert!(image_tensor(batch.clone(), &gpu.clone().autodiff()).is_autodiff());
    let tensor = image_tensor(batch, &gpu);
    assert!(!tensor.is_autodiff());
    assert_eq!(tensor.dims(), [3, 3, 64, 64]);
    let found: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found), bits(&expected.data));
}
