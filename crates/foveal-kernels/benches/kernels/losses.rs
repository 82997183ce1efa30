//! The class loss of one image of 512x512: 49104 anchors, 80 classes.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput};
use foveal_kernels::{BACKGROUND, ClassLossKind, ClassLossParams, IGNORE, class_loss};

use crate::{Timed, backward, forward, noise};

const ANCHORS: usize = 49_104;
const CLASSES: usize = 80;
/// One anchor in so many has an object, another is ignored.
const RARE: usize = 500;

pub fn all(c: &mut Criterion, device: &Device) {
    let training = device.clone().autodiff();
    let ids = |device: &Device| -> Tensor<1, Int> {
        let class = |i: usize| match i % RARE {
            0 => (i / RARE % CLASSES) as i32,
            1 => IGNORE,
            _ => BACKGROUND,
        };
        Tensor::from_data(TensorData::new((0..ANCHORS).map(class).collect::<Vec<i32>>(), [ANCHORS]), device)
    };
    let kinds = [("focal", ClassLossKind::Focal, 2.0), ("cross_entropy", ClassLossKind::CrossEntropy, 0.0)];
    for (name, kind, gamma) in kinds {
        let p = ClassLossParams { kind, alpha: 0.25, gamma };
        let work = Throughput::Elements((ANCHORS * CLASSES) as u64);
        let timed = |direction| Timed { kernel: "class_loss", direction, layer: name, work: work.clone() };
        let (logits, classes) = (noise([ANCHORS, CLASSES], device), ids(device));
        forward(c, &timed("forward"), || class_loss(logits.clone(), classes.clone(), p));
        let (logits, classes) = (noise([ANCHORS, CLASSES], &training).require_grad(), ids(&training));
        // The gradient may be made on the way forward: what counts is both together.
        forward(c, &timed("both"), || class_loss(logits.clone(), classes.clone(), p).loss.backward());
        backward(c, &timed("gradient"), || class_loss(logits.clone(), classes.clone(), p).loss);
    }
}
