//! The targets of a batch on the device of the predictions. They are copied in two transfers, one of integers and one
//! of floats, because a GPU executes what was queued before each transfer.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, Positive};
use foveal_boxes::BBox;
use foveal_kernels::BreakdownLayout;

use crate::config::LossConfig;
use crate::kind;

/// What a loss needs of the targets of a batch, on the device.
pub(crate) struct TargetTensors {
    /// The class of each anchor, or `BACKGROUND` or `IGNORE`, `[batch * anchors]`.
    pub(crate) ids: Tensor<1, Int>,
    /// The number of background anchors that take part, `[batch]`, if the device selects them.
    pub(crate) keep: Option<Tensor<1, Int>>,
    /// The positive anchors of all images; `None` if there are none.
    pub(crate) positives: Option<PositiveTensors>,
}

/// The positive anchors of a batch, in the order of the images.
pub(crate) struct PositiveTensors {
    /// Number of positive anchors.
    pub(crate) count: usize,
    /// The row of each anchor among all anchors of the batch, `[positives, 1]`.
    pub(crate) rows: Tensor<2, Int>,
    /// The factor of the image of each anchor, `[positives, 1]`.
    pub(crate) weight: Tensor<2>,
    /// The regression targets, `[positives, 4]`, for box losses that are computed from deltas.
    pub(crate) deltas: Option<Tensor<2>>,
    /// The boxes, if the loss is computed from them.
    pub(crate) boxes: Option<BoxTensors>,
    /// What the quality focal loss needs in addition.
    pub(crate) quality: Option<QualityTensors>,
}

/// The boxes of the positive anchors as corners in pixels, `[positives, 4]` each.
pub(crate) struct BoxTensors {
    /// The anchors' own boxes.
    pub(crate) anchors: Tensor<2>,
    /// The boxes of the objects that the anchors are matched with.
    pub(crate) objects: Tensor<2>,
}

/// What the quality focal loss needs of the positive anchors.
pub(crate) struct QualityTensors {
    /// The row of each anchor and the class channel of its object, `[positives, 2]`.
    pub(crate) pairs: Tensor<2, Int>,
    /// The class channel of each anchor, `[positives]`, for a breakdown.
    pub(crate) classes: Tensor<1, Int>,
    /// The pyramid level of each anchor, `[positives]`, if there is a breakdown.
    pub(crate) levels: Option<Tensor<1, Int>>,
    /// The factor of the image times the weight of the class, `[positives]`.
    pub(crate) weight: Tensor<1>,
    /// The exponent of the class, `[positives]`.
    pub(crate) beta: Tensor<1>,
}

/// The targets of a batch on the host.
pub(crate) struct BatchTargets<'a> {
    /// The class of each anchor, or `BACKGROUND` or `IGNORE`, `[batch * anchors]`.
    pub(crate) ids: &'a [i32],
    /// The number of background anchors that take part, `[batch]`, if the device selects them.
    pub(crate) keep: Option<Vec<i32>>,
    /// The targets of each image.
    pub(crate) images: &'a [ImageTargets],
    /// The factor of each image.
    pub(crate) weights: &'a [f64],
    /// The number of anchors of each pyramid level, if a breakdown is computed.
    pub(crate) layout: Option<BreakdownLayout>,
}

/// A positive anchor and its image.
#[derive(Clone, Copy)]
struct Place<'a> {
    image: usize,
    positive: &'a Positive,
    /// The class channel. In a network with more channels than classes it differs from the object's class.
    id: i32,
}

impl Place<'_> {
    /// The row of the anchor among all anchors of a batch with `anchors` anchors per image.
    ///
    /// It is the only product among the indices, because the product with the number of classes exceeds the range of
    /// `i32` at 9 images of 201,600 anchors and 1,203 classes.
    fn row(self, anchors: usize) -> i32 {
        let row = self.image * anchors + self.positive.anchor as usize;
        i32::try_from(row).unwrap_or_else(|_| {
            panic!("the losses can address {} anchors in a batch; anchor {row} is beyond", i32::MAX);
        })
    }

    /// The row of the anchor and the class channel of its object: the indices of its pair in logits of the shape
    /// `[batch * anchors, classes]`.
    fn pair(self, anchors: usize) -> [i32; 2] {
        [self.row(anchors), self.id]
    }

    /// The class channel as an index.
    fn class(self) -> usize {
        usize::try_from(self.id).expect("a positive anchor has a class")
    }
}

fn corners(b: BBox) -> [f32; 4] {
    [b.x1, b.y1, b.x2, b.y2]
}

/// Values of several tensors that are copied to a device together.
struct Packed<T> {
    values: Vec<T>,
}

impl<T> Packed<T> {
    fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Adds the values of a tensor and returns their place.
    fn add(&mut self, values: impl IntoIterator<Item = T>) -> Range<usize> {
        let start = self.values.len();
        self.values.extend(values);
        start..self.values.len()
    }
}

impl TargetTensors {
    /// Copies the targets that the loss of `config` needs to a device.
    pub(crate) fn new(config: &LossConfig, batch: &BatchTargets<'_>, device: &Device) -> Self {
        let anchors = batch.ids.len() / batch.images.len().max(1);
        let is_quality = config.kind.form().positives == kind::Positives::Quality;
        let positives: Vec<Place<'_>> =
            batch.images.iter().enumerate().flat_map(|i| places(i, batch, anchors)).collect();
        let count = positives.len();
        let of = |place: &Place<'_>| batch.weights[place.image];

        let mut ints = Packed::new();
        let ids = ints.add(batch.ids.iter().copied());
        let keep = batch.keep.as_ref().map(|keep| ints.add(keep.iter().copied()));
        let rows = ints.add(positives.iter().map(|p| p.row(anchors)));
        let pairs = is_quality.then(|| ints.add(positives.iter().flat_map(|p| p.pair(anchors))));
        let classes = is_quality.then(|| ints.add(positives.iter().map(|p| p.id)));
        let levels = batch
            .layout
            .filter(|_| is_quality)
            .map(|layout| ints.add(positives.iter().map(|p| layout.level(p.positive.anchor as usize).0 as i32)));

        let by_boxes = config.box_kind.reads_boxes();
        let mut floats = Packed::new();
        let weight = floats.add(positives.iter().map(|p| of(p) as f32));
        let deltas = (!by_boxes).then(|| floats.add(positives.iter().flat_map(|p| p.positive.delta.to_array())));
        let boxes = (by_boxes || is_quality).then(|| {
            let anchors = floats.add(positives.iter().flat_map(|p| corners(p.positive.anchor_box)));
            (anchors, floats.add(positives.iter().flat_map(|p| corners(p.positive.object))))
        });
        let quality = is_quality.then(|| {
            let weight = floats.add(positives.iter().map(|p| (of(p) * config.class_weight(p.class())) as f32));
            (weight, floats.add(positives.iter().map(|p| config.gamma.of(p.class()) as f32)))
        });

        let length = [ints.values.len()];
        let ints = Tensor::<1, Int>::from_data(TensorData::new(ints.values, length), device);
        let int = |at: Range<usize>| ints.clone().narrow(0, at.start, at.len());
        let (ids, keep) = (int(ids), keep.map(int));
        if count == 0 {
            return Self { ids, keep, positives: None };
        }
        let length = [floats.values.len()];
        let floats = Tensor::<1>::from_data(TensorData::new(floats.values, length), device);
        let float = |at: Range<usize>| floats.clone().narrow(0, at.start, at.len());
        let columns = |at: Range<usize>| float(at).reshape([count, 4]);
        let pairs = pairs.map(|pairs| int(pairs).reshape([count, 2])).zip(classes.map(int)).zip(quality);
        let positives = PositiveTensors {
            count,
            rows: int(rows).reshape([count, 1]),
            weight: float(weight).reshape([count, 1]),
            deltas: deltas.map(columns),
            boxes: boxes.map(|(anchors, objects)| BoxTensors { anchors: columns(anchors), objects: columns(objects) }),
            quality: pairs.map(|((pairs, classes), (weight, beta))| QualityTensors {
                pairs,
                classes,
                levels: levels.map(int),
                weight: float(weight),
                beta: float(beta),
            }),
        };
        Self { ids, keep, positives: Some(positives) }
    }
}

/// The positive anchors of an image.
fn places<'a>((image, targets): (usize, &'a ImageTargets), batch: &BatchTargets<'_>, anchors: usize) -> Vec<Place<'a>> {
    let ids = &batch.ids[image * anchors..];
    let place = |positive: &'a Positive| Place { image, positive, id: ids[positive.anchor as usize] };
    targets.positives.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_boxes::Delta;

    fn positive(anchor: u32) -> Positive {
        let (anchor_box, delta) = (BBox::new(0.0, 0.0, 1.0, 1.0), Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 });
        Positive { anchor, class: 1202, anchor_box, object: anchor_box, delta }
    }

    /// LVIS has 1,203 classes, and 800x1344 pixels have 201,600 anchors. The pair's place among all logits is then
    /// beyond the range of `i32`.
    #[test]
    fn indices_of_a_large_batch_do_not_overflow() {
        const ANCHORS: usize = 201_600;
        let positive = positive(ANCHORS as u32 - 1);
        let place = Place { image: 15, positive: &positive, id: 1202 };
        let flat = (15 * ANCHORS + ANCHORS - 1) * 1203 + 1202;
        assert!(flat > i32::MAX as usize);
        let [row, class] = place.pair(ANCHORS);
        assert_eq!(row as usize * 1203 + class as usize, flat);
        assert_eq!(row, 3_225_599);
    }

    #[test]
    #[should_panic(expected = "can address 2147483647 anchors in a batch")]
    fn a_row_beyond_the_range_is_named() {
        let positive = positive(201_599);
        let _ = Place { image: 10_652, positive: &positive, id: 0 }.row(201_600);
    }
}
