//! Post-processing: from the network's predictions to detections (arXiv 1708.02002, section 4.1). The steps and their
//! order are those of torchvision: sigmoid, score threshold, selection of the best (anchor, class) pairs of each level,
//! box decoding, clipping, class-wise NMS, selection of the best detections, scaling to the original image.

use burn::tensor::Tensor;
use foveal_anchors::Anchors;
use foveal_boxes::{BBox, class_nms, decode};
use foveal_image::ImageFrame;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::Dense;
use crate::outputs::{ImageOutputs, Outputs, Selection};
use crate::topk::best;
use crate::{ClassChannels, NonFiniteOutput};

/// Settings of post-processing: thresholds and limits with which predictions become detections (part of `[eval]`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostprocessConfig {
    /// Score threshold in 0..1: a detection must have a higher score. Default: 0.05.
    pub score_threshold: f32,
    /// IoU threshold in 0..1 of non-maximum suppression: of two boxes of the same class with a higher IoU, the one with
    /// the lower score is dropped. Default: 0.5.
    pub nms: f32,
    /// Maximum number of detections per image. Default: 100.
    pub max_detections: usize,
    /// Maximum number of (anchor, class) pairs per pyramid level that enter non-maximum suppression, chosen by score.
    /// Default: 1000.
    pub pre_nms: usize,
}

impl Default for PostprocessConfig {
    fn default() -> Self {
        Self { score_threshold: 0.05, nms: 0.5, max_detections: 100, pre_nms: 1000 }
    }
}

/// One detected object: box, score and class index.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Bounding box in pixels of the original image.
    pub bbox: BBox,
    /// Score in 0..1, the sigmoid of the class logit.
    pub score: f32,
    /// Class index, an index into the checkpoint's categories.
    pub class: u32,
}

/// Converts the network's predictions into the detections of each image, in descending order of score (arXiv
/// 1708.02002, section 4.1; steps in torchvision's order). `channels` assigns classes to class channels, if not every
/// channel stands for a class; channels without a class are left out first. Boxes that clipping left without area are
/// left out last: they lie outside the image, and torchvision returns them. Reads the predictions from the device once.
/// Of a GPU's predictions, only the pairs of an anchor and a class that can become detections are read, and all of them
/// in a second read if too many of an image have nearly the same score.
///
/// # Shapes
/// - dense: logits `[batch, anchors, class channels]`, deltas `[batch, anchors, 4]`
/// - frames: sizes before and after resizing in pixels, one entry per image
/// - result: one list of detections per image, boxes in pixels of the original image
///
/// # Errors
/// [`NonFiniteOutput`] if a logit or a delta is NaN or infinite, with the images of the batch that have one.
///
/// # Panics
/// If the number of `anchors`, `frames` or `channels` differs from that in `dense`.
pub fn postprocess(
    dense: &Dense,
    anchors: &Anchors,
    frames: &[ImageFrame],
    config: &PostprocessConfig,
    channels: Option<&ClassChannels>,
) -> Result<Vec<Vec<Detection>>, NonFiniteOutput> {
    postprocess_with(dense, anchors, frames, config, channels, []).map(|(detections, [])| detections)
}

/// Converts the network's predictions into detections as [`postprocess()`] does, and reads `scalars` from the device
/// together with the predictions. Returns the detections of each image, and the values of `scalars`.
///
/// # Shapes
/// - dense: logits `[batch, anchors, class channels]`, deltas `[batch, anchors, 4]`
/// - frames: sizes before and after resizing in pixels, one entry per image
/// - scalars: each `[1]`
///
/// # Errors
/// [`NonFiniteOutput`] if a logit or a delta is NaN or infinite, with the images of the batch that have one.
///
/// # Panics
/// If the number of `anchors`, `frames` or `channels` differs from that in `dense`.
pub fn postprocess_with<const N: usize>(
    dense: &Dense,
    anchors: &Anchors,
    frames: &[ImageFrame],
    config: &PostprocessConfig,
    channels: Option<&ClassChannels>,
    scalars: [Tensor<1>; N],
) -> Result<(Vec<Vec<Detection>>, [f32; N]), NonFiniteOutput> {
    let [batch, count, classes] = dense.logits.dims();
    assert_eq!(count, anchors.boxes.len(), "postprocess: as many anchors as rows of logits");
    assert_eq!(batch, frames.len(), "postprocess: one frame per image");
    let class_of = channels.map_or_else(|| (0..classes as u32).map(Some).collect(), ClassChannels::classes);
    assert_eq!(class_of.len(), classes, "postprocess: as many channels as columns of logits");
    let selection = Selection {
        level_offsets: &anchors.level_offsets,
        class_of: &class_of,
        threshold: config.score_threshold,
        per_level: config.pre_nms,
    };
    // Inference reads from the device here and nowhere else.
    let (outputs, scalars) = Outputs::read(dense, &selection, scalars);
    let outputs = outputs.images(count, classes);
    let images: Vec<usize> = (0..outputs.len()).filter(|&image| outputs[image].is_none()).collect();
    if !images.is_empty() {
        return Err(NonFiniteOutput { images });
    }
    let outputs: Vec<ImageOutputs> = outputs.into_iter().flatten().collect();
    let detect =
        |(outputs, frame): (&ImageOutputs, &ImageFrame)| one_image(outputs, &selection, anchors, frame, config);
    Ok((outputs.par_iter().zip(frames).map(detect).collect(), scalars))
}

fn one_image(
    outputs: &ImageOutputs,
    selection: &Selection,
    anchors: &Anchors,
    frame: &ImageFrame,
    config: &PostprocessConfig,
) -> Vec<Detection> {
    let classes = selection.class_of.len();
    let (width, height) = (frame.width as f32, frame.height as f32);
    let (mut boxes, mut scores, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for level in 0..anchors.level_offsets.len() - 1 {
        for pair in best(outputs.scores(level, selection), config.pre_nms) {
            let (anchor, channel) = (pair.index as usize / classes, pair.index as usize % classes);
            let delta = outputs.delta(pair.index, classes);
            boxes.push(decode(&anchors.boxes[anchor], delta).clip(width, height));
            scores.push(pair.score);
            labels.push(selection.class_of[channel].expect("channels without a class are left out"));
        }
    }
    let mut kept = class_nms(&boxes, &scores, &labels, config.nms);
    kept.truncate(config.max_detections);
    // Last, so that the detections are torchvision's but for those without area.
    kept.retain(|&i| !boxes[i].is_degenerate());
    let (sx, sy) = (frame.original_width as f32 / width, frame.original_height as f32 / height);
    kept.into_iter().map(|i| Detection { bbox: boxes[i].scale(sx, sy), score: scores[i], class: labels[i] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn dense(logits: &[[f32; 2]]) -> Dense {
        let device = Device::flex();
        let flat: Vec<f32> = logits.iter().flatten().copied().collect();
        let n = logits.len();
        let logits = Tensor::<1>::from_floats(flat.as_slice(), &device).reshape([1, n, 2]);
        Dense { logits, deltas: Tensor::zeros([1, n, 4], &device), grids: vec![] }
    }

    fn anchors() -> Anchors {
        let boxes =
            vec![BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(1.0, 0.0, 11.0, 10.0), BBox::new(50.0, 50.0, 90.0, 90.0)];
        Anchors { level_offsets: vec![0, 2, 3], anchors_per_location: 1, boxes, grids: Vec::new() }
    }

    const FRAME: ImageFrame = ImageFrame { width: 80, height: 80, original_width: 160, original_height: 40 };

    #[test]
    fn duplicates_go_class_by_class_and_boxes_come_back_in_original_pixels() {
        let d = dense(&[[2.0, -9.0], [1.0, 0.0], [3.0, -9.0]]);
        let found = &postprocess(&d, &anchors(), &[FRAME], &PostprocessConfig::default(), None).unwrap()[0];
        let summary: Vec<(u32, BBox)> = found.iter().map(|d| (d.class, d.bbox)).collect();
        // Clipped to 80 x 80, then 2 times as wide and half as high; the second anchor lost class 0 to the first.
        let expected = [
            (0, BBox::new(100.0, 25.0, 160.0, 40.0)),
            (0, BBox::new(0.0, 0.0, 20.0, 5.0)),
            (1, BBox::new(2.0, 0.0, 22.0, 5.0)),
        ];
        assert_eq!(summary, expected);
    }

    #[test]
    fn limits_hold() {
        let d = dense(&[[2.0, 1.9], [1.0, 0.5], [3.0, -200.0]]);
        let at = |config| postprocess(&d, &anchors(), &[FRAME], &config, None).unwrap()[0].len();
        assert_eq!(at(PostprocessConfig { max_detections: 1, ..PostprocessConfig::default() }), 1);
        assert_eq!(at(PostprocessConfig { pre_nms: 1, nms: 1.0, ..PostprocessConfig::default() }), 2);
        assert_eq!(at(PostprocessConfig { score_threshold: 0.9, ..PostprocessConfig::default() }), 1);
        assert_eq!(at(PostprocessConfig { score_threshold: 0.0, nms: 1.0, ..PostprocessConfig::default() }), 5);
    }

    #[test]
    fn channels_without_a_class_are_left_out_before_the_best_are_taken() {
        let d = dense(&[[2.0, 1.9], [1.0, 0.5], [3.0, -9.0]]);
        let channels = ClassChannels { count: 2, of_class: vec![1] };
        let config = PostprocessConfig { pre_nms: 1, ..PostprocessConfig::default() };
        let found = &postprocess(&d, &anchors(), &[FRAME], &config, Some(&channels)).unwrap()[0];
        let summary: Vec<(u32, f32)> = found.iter().map(|d| (d.class, d.score)).collect();
        assert_eq!(summary, [(0, 1.0 / (1.0 + (-1.9f32).exp()))]);
    }
    #[test]
    fn outputs_that_are_not_finite_are_errors_that_name_the_images() {
        let device = Device::flex();
        let good = [2.0, -1.0, 0.0, 0.5, 1.0, -3.0];
        for (bad, in_deltas) in [(f32::NAN, false), (f32::INFINITY, false), (f32::NEG_INFINITY, true), (f32::NAN, true)]
        {
            let (mut logits, mut deltas) = ([good, good, good].concat(), vec![0.0; 3 * 3 * 4]);
            if in_deltas {
                deltas[12 + 7] = bad
            } else {
                logits[6 + 5] = bad
            }
            let dense = Dense {
                logits: Tensor::<1>::from_floats(logits.as_slice(), &device).reshape([3, 3, 2]),
                deltas: Tensor::<1>::from_floats(deltas.as_slice(), &device).reshape([3, 3, 4]),
                grids: vec![],
            };
            let found = postprocess(&dense, &anchors(), &[FRAME; 3], &PostprocessConfig::default(), None);
            assert_eq!(found.unwrap_err().images, [1], "{bad}");
        }
    }

    /// The third anchor is moved out of the image to the right and the first one to the top, by ten of their own sides.
    #[test]
    fn boxes_that_have_no_area_after_clipping_are_left_out() {
        let device = Device::flex();
        let mut d = dense(&[[2.0, -9.0], [1.0, -9.0], [3.0, -9.0]]);
        let deltas = [0.0, -10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0];
        d.deltas = Tensor::<1>::from_floats(deltas.as_slice(), &device).reshape([1, 3, 4]);
        let found = &postprocess(&d, &anchors(), &[FRAME], &PostprocessConfig::default(), None).unwrap()[0];
        let boxes: Vec<BBox> = found.iter().map(|d| d.bbox).collect();
        assert_eq!(boxes, [BBox::new(2.0, 0.0, 22.0, 5.0)]);
    }
}
