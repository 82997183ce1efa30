//! ONNX nodes for post-processing, in the same steps as `postprocess.rs`: selection of the best (anchor, class) pairs
//! of each level, removal of the boxes that clipping left without area, class-wise non-maximum suppression, selection of
//! the best detections of each image.

use super::builder::{Builder, Value, int_attribute};
use super::layers::top;
use crate::PostprocessConfig;

/// Candidate detections of one level, or of all levels.
struct Candidates {
    /// Scores, `[batch, candidates]`.
    scores: Value,
    /// Class indices, `[batch, candidates]`.
    classes: Value,
    /// Boxes, `[batch, candidates, 4]`.
    boxes: Value,
}

/// The detections of all images of the batch: image by image, each in descending order of score.
pub(super) struct Selected {
    /// Boxes x1, y1, x2, y2 in pixels of the input, `[detections, 4]`.
    pub boxes: Value,
    /// Scores, `[detections]`.
    pub scores: Value,
    /// Class indices, integers `[detections]`.
    pub classes: Value,
    /// Index of the image of each detection, integers `[detections]`.
    pub batch_index: Value,
}

/// Adds the selection of detections from each level's logits `[batch, anchors, classes]` and boxes
/// `[batch, anchors, 4]`.
pub(super) fn select(
    builder: &mut Builder,
    levels: &[(Value, Value)],
    classes: usize,
    config: &PostprocessConfig,
) -> Selected {
    let best: Vec<Candidates> =
        levels.iter().map(|(logits, boxes)| best_of_level(builder, logits, boxes, classes, config.pre_nms)).collect();
    let all = Candidates {
        scores: builder.concat(&best.iter().map(|c| &c.scores).collect::<Vec<_>>(), 1),
        classes: builder.concat(&best.iter().map(|c| &c.classes).collect::<Vec<_>>(), 1),
        boxes: builder.concat(&best.iter().map(|c| &c.boxes).collect::<Vec<_>>(), 1),
    };
    let kept = suppress(builder, &all, classes, config);
    best_of_images(builder, &all, &kept, config.max_detections)
}

/// Selects the `count` (anchor, class) pairs of one level with the highest scores.
fn best_of_level(builder: &mut Builder, logits: &Value, boxes: &Value, classes: usize, count: usize) -> Candidates {
    let scores = builder.node("Sigmoid", &[logits], vec![]);
    let scores = builder.reshape(&scores, &[0, -1]);
    let count = at_most(builder, count, &scores);
    let [scores, pairs] = top(builder, &scores, &count);
    let classes = builder.int(classes as i64);
    let anchor = builder.node("Div", &[&pairs, &classes], vec![]);
    let class = builder.node("Mod", &[&pairs, &classes], vec![]);
    let last = builder.ints(&[-1]);
    let anchor = builder.node("Unsqueeze", &[&anchor, &last], vec![]);
    let boxes = builder.node("GatherND", &[boxes, &anchor], vec![int_attribute("batch_dims", 1)]);
    let scores = without_area(builder, &scores, &boxes);
    Candidates { scores, classes: class, boxes }
}

/// The scores `[batch, candidates]`, with 0 for each of the clipped boxes `[batch, candidates, 4]` that has no area. A
/// score of 0 is never above the threshold.
fn without_area(builder: &mut Builder, scores: &Value, boxes: &Value) -> Value {
    let (low, high) = (builder.last_axis(boxes, 0, 2), builder.last_axis(boxes, 2, 4));
    let size = builder.node("Sub", &[&high, &low], vec![]);
    let (width, height) = (builder.last_axis(&size, 0, 1), builder.last_axis(&size, 1, 2));
    let shorter = builder.node("Min", &[&width, &height], vec![]);
    let shorter = builder.reshape(&shorter, &[0, -1]);
    let zero = builder.float(0.0);
    let has_area = builder.node("Greater", &[&shorter, &zero], vec![]);
    builder.node("Where", &[&has_area, scores, &zero], vec![])
}

/// The smaller of `count` and the length of `values [batch, length]`, as a vector `[1]`.
fn at_most(builder: &mut Builder, count: usize, values: &Value) -> Value {
    let shape = builder.node("Shape", &[values], vec![]);
    let axis = builder.ints(&[1]);
    let length = builder.gather(&shape, &axis, 0);
    let count = builder.ints(&[count as i64]);
    builder.node("Min", &[&count, &length], vec![])
}

/// Adds class-wise non-maximum suppression.
///
/// # Shapes
/// - result: `[batch, candidates]`, the score of each candidate that is kept, 0 for each that is suppressed
fn suppress(builder: &mut Builder, all: &Candidates, classes: usize, config: &PostprocessConfig) -> Value {
    // The operator takes a score for each box and class. Here each box belongs to one class; its scores for the other
    // classes are 0, which is never above the threshold.
    let middle = builder.ints(&[1]);
    let scores = builder.node("Unsqueeze", &[&all.scores, &middle], vec![]);
    let of_class = builder.node("Unsqueeze", &[&all.classes, &middle], vec![]);
    let every: Vec<i64> = (0..classes as i64).collect();
    let every = builder.ints(&every);
    let every = builder.reshape(&every, &[1, -1, 1]);
    let own = builder.node("Equal", &[&of_class, &every], vec![]);
    let zero = builder.float(0.0);
    let by_class = builder.node("Where", &[&own, &scores, &zero], vec![]);

    let most = builder.ints(&[config.max_detections as i64]);
    let overlap = builder.floats(&[1], &[config.nms]);
    let threshold = builder.floats(&[1], &[config.score_threshold.max(0.0)]);
    let selected = builder.node("NonMaxSuppression", &[&all.boxes, &by_class, &most, &overlap, &threshold], vec![]);
    // The rows of the result are image, class, candidate.
    let columns = builder.ints(&[0, 2]);
    let places = builder.gather(&selected, &columns, 1);
    let kept = builder.node("GatherND", &[&all.scores, &places], vec![]);
    let shape = builder.node("Shape", &[&all.scores], vec![]);
    let none = builder.node("ConstantOfShape", &[&shape], vec![]);
    builder.node("ScatterND", &[&none, &places, &kept], vec![])
}

/// Selects the `most` candidates with the highest scores of each image, among those that were kept.
fn best_of_images(builder: &mut Builder, all: &Candidates, kept: &Value, most: usize) -> Selected {
    let count = at_most(builder, most, kept);
    let [scores, candidates] = top(builder, kept, &count);
    let zero = builder.float(0.0);
    let found = builder.node("Greater", &[&scores, &zero], vec![]);
    // NonZero lists its entries row by row: images in order, and within an image by rank.
    let places = builder.node("NonZero", &[&found], vec![]);
    let (first, last) = (builder.int(0), builder.ints(&[-1]));
    let batch_index = builder.gather(&places, &first, 0);
    let places = builder.node("Transpose", &[&places], vec![]);
    let scores = builder.node("GatherND", &[&scores, &places], vec![]);
    let candidates = builder.node("GatherND", &[&candidates, &places], vec![]);
    let image = builder.node("Unsqueeze", &[&batch_index, &last], vec![]);
    let candidate = builder.node("Unsqueeze", &[&candidates, &last], vec![]);
    let places = builder.concat(&[&image, &candidate], 1);
    let boxes = builder.node("GatherND", &[&all.boxes, &places], vec![]);
    let classes = builder.node("GatherND", &[&all.classes, &places], vec![]);
    Selected { boxes, scores, classes, batch_index }
}
