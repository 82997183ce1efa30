//! The batches of a step as a safetensors file: images and targets exactly as the network received them.
//!
//! Batch `k` of the step has the tensors `k/images` (f32, `[batch, 3, height, width]`), `k/classes` (i32, `[batch,
//! anchors]`), and for its positive anchors `k/positives/image`, `anchor` and `class` (u32, `[positives]`) and
//! `k/positives/anchor_boxes`, `objects` and `deltas` (f32, `[positives, 4]`).

use std::borrow::Cow;

use foveal_anchors::{IGNORE, ImageTargets, Positive, grid_sizes};
use foveal_boxes::{BBox, Delta};
use foveal_data::Batch;
use foveal_detector::ModelConfig;
use foveal_image::{PaddedBatch, SIZE_DIVISOR};
use foveal_weights::{HostTensor, TensorMap};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

/// Images and targets of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedBatch {
    /// The images, normalised and padded to one size, `[batch, 3, height, width]`.
    pub images: PaddedBatch,
    /// The targets of each image: `[batch]`.
    pub targets: Vec<ImageTargets>,
}

impl From<Batch> for RecordedBatch {
    fn from(batch: Batch) -> Self {
        Self { images: batch.images.into_normalised(), targets: batch.targets }
    }
}

/// A tensor of the file.
struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Part {
    fn new<T: Copy, const N: usize>(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        values: impl Iterator<Item = T>,
        to_bytes: impl Fn(T) -> [u8; N],
    ) -> Self {
        Self { name, dtype, shape, bytes: values.flat_map(to_bytes).collect() }
    }
}

impl View for &Part {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of the safetensors file of `batches`.
pub(super) fn to_bytes(batches: &[RecordedBatch]) -> Vec<u8> {
    let parts: Vec<Part> = batches.iter().enumerate().flat_map(|(k, batch)| parts(k, batch)).collect();
    safetensors::serialize(parts.iter().map(|part| (&part.name, part)), None).expect("names are unique and sizes right")
}

/// The bytes of a safetensors file of `tensors`.
pub(crate) fn tensors_to_bytes(tensors: &TensorMap) -> Vec<u8> {
    let part = |(name, tensor): (&String, &HostTensor)| {
        Part::new(name.clone(), Dtype::F32, tensor.shape.clone(), tensor.values.iter().copied(), f32::to_le_bytes)
    };
    let parts: Vec<Part> = tensors.iter().map(part).collect();
    safetensors::serialize(parts.iter().map(|part| (&part.name, part)), None).expect("names are unique and sizes right")
}

fn parts(k: usize, RecordedBatch { images, targets }: &RecordedBatch) -> Vec<Part> {
    let positives: Vec<(u32, &Positive)> =
        targets.iter().enumerate().flat_map(|(i, t)| t.positives.iter().map(move |p| (i as u32, p))).collect();
    let anchors = targets.first().map_or(0, |t| t.classes.len());
    let count = positives.len();
    let integers = |name: &str, of: fn(&(u32, &Positive)) -> u32| {
        let name = format!("{k}/positives/{name}");
        Part::new(name, Dtype::U32, vec![count], positives.iter().map(of), u32::to_le_bytes)
    };
    let numbers = |name: &str, of: fn(&Positive) -> [f32; 4]| {
        let name = format!("{k}/positives/{name}");
        Part::new(name, Dtype::F32, vec![count, 4], positives.iter().flat_map(|(_, p)| of(p)), f32::to_le_bytes)
    };
    let shape = vec![images.batch, 3, images.height, images.width];
    let classes = targets.iter().flat_map(|t| t.classes.iter().copied());
    vec![
        Part::new(format!("{k}/images"), Dtype::F32, shape, images.data.iter().copied(), f32::to_le_bytes),
        Part::new(format!("{k}/classes"), Dtype::I32, vec![targets.len(), anchors], classes, i32::to_le_bytes),
        integers("image", |(image, _)| *image),
        integers("anchor", |(_, p)| p.anchor),
        integers("class", |(_, p)| p.class),
        numbers("anchor_boxes", |p| corners(p.anchor_box)),
        numbers("objects", |p| corners(p.object)),
        numbers("deltas", |p| p.delta.to_array()),
    ]
}

fn corners(b: BBox) -> [f32; 4] {
    [b.x1, b.y1, b.x2, b.y2]
}

/// Reads the batches from the bytes of a safetensors file.
///
/// # Errors
/// A description of what was expected and what was found.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Vec<RecordedBatch>, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("expected the batch as a safetensors file, found damaged content ({e})"))?;
    let count = file.names().iter().filter(|name| name.ends_with("/images")).count();
    (0..count).map(|k| read(&file, k)).collect()
}

/// The values of a tensor and its shape.
struct Values<T> {
    values: Vec<T>,
    shape: Vec<usize>,
}

fn values<T, const N: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    rank: usize,
    from: fn([u8; N]) -> T,
) -> Result<Values<T>, String> {
    let view = file.tensor(name).map_err(|_| format!("expected the tensor {name}, found none"))?;
    if view.dtype() != dtype || view.shape().len() != rank {
        let (found, shape) = (view.dtype(), view.shape());
        return Err(format!("expected {name} of type {dtype:?} with {rank} axes, found {found:?} of shape {shape:?}"));
    }
    let values = view.data().as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect();
    Ok(Values { values, shape: view.shape().to_vec() })
}

fn read(file: &SafeTensors<'_>, k: usize) -> Result<RecordedBatch, String> {
    let images = values(file, &format!("{k}/images"), Dtype::F32, 4, f32::from_le_bytes)?;
    let [batch, channels, height, width] = *images.shape.as_slice() else { unreachable!("the tensor has four axes") };
    let padded = |side: usize| side > 0 && side.is_multiple_of(SIZE_DIVISOR);
    if channels != 3 || batch == 0 || !padded(height) || !padded(width) {
        let shape = images.shape;
        return Err(format!("expected {k}/images of shape [batch, 3, height, width], padded to 32, found {shape:?}"));
    }
    let classes = values(file, &format!("{k}/classes"), Dtype::I32, 2, i32::from_le_bytes)?;
    if classes.shape[0] != batch || classes.shape[1] == 0 {
        let shape = classes.shape;
        return Err(format!("expected {k}/classes with the anchors of {batch} images, found the shape {shape:?}"));
    }
    let each = classes.values.chunks(classes.shape[1]);
    let mut targets: Vec<ImageTargets> =
        each.map(|classes| ImageTargets { classes: classes.to_vec(), positives: Vec::new() }).collect();
    let integers = |name: &str| values(file, &format!("{k}/positives/{name}"), Dtype::U32, 1, u32::from_le_bytes);
    let numbers = |name: &str| values(file, &format!("{k}/positives/{name}"), Dtype::F32, 2, f32::from_le_bytes);
    let [image, anchor, class] = [integers("image")?, integers("anchor")?, integers("class")?];
    let [anchor_box, object, delta] = [numbers("anchor_boxes")?, numbers("objects")?, numbers("deltas")?];
    let count = image.values.len();
    let shapes = [&anchor_box.shape, &object.shape, &delta.shape];
    if anchor.values.len() != count || class.values.len() != count || shapes.iter().any(|s| **s != [count, 4]) {
        return Err(format!("expected {count} positives in every tensor of {k}/positives, found other numbers"));
    }
    let row = |values: &Values<f32>, i: usize| -> [f32; 4] { std::array::from_fn(|j| values.values[4 * i + j]) };
    let bbox = |[x1, y1, x2, y2]: [f32; 4]| BBox::new(x1, y1, x2, y2);
    for i in 0..count {
        let Some(of_image) = targets.get_mut(image.values[i] as usize) else {
            return Err(format!("expected positives of {batch} images, found one of image {}", image.values[i]));
        };
        of_image.positives.push(Positive {
            anchor: anchor.values[i],
            class: class.values[i],
            anchor_box: bbox(row(&anchor_box, i)),
            object: bbox(row(&object, i)),
            delta: Delta::from_array(row(&delta, i)),
        });
    }
    let images = PaddedBatch { data: images.values, batch, height, width };
    Ok(RecordedBatch { images, targets })
}

impl RecordedBatch {
    /// Checks that the targets are those of a network of `model` with `channels` class channels.
    ///
    /// # Errors
    /// A description of what was expected and what was found.
    pub(super) fn check(&self, model: &ModelConfig, channels: usize) -> Result<(), String> {
        let grids = grid_sizes(self.images.height, self.images.width);
        let locations: usize = grids.iter().map(|grid| grid.positions()).sum();
        let anchors = locations * model.anchors.anchors_per_location();
        for targets in &self.targets {
            let found = targets.classes.len();
            if found != anchors {
                return Err(format!("expected targets of {anchors} anchors, as the network has, found {found}"));
            }
            let allowed = IGNORE..channels as i32;
            let class = targets.classes.iter().find(|class| !allowed.contains(class));
            let positive =
                targets.positives.iter().find(|p| p.anchor as usize >= anchors || p.class as usize >= channels);
            if let Some(class) = class.copied().or(positive.map(|p| p.class as i32)) {
                return Err(format!(
                    "expected classes below {channels} and anchors below {anchors}, found class {class}"
                ));
            }
        }
        Ok(())
    }
}
