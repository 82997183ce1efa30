//! Times of the class loss of one 512x512 image (49,104 anchors, 80 classes), with and without its breakdown.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput};
use foveal_kernels::{
    BACKGROUND, BreakdownLayout, ClassLossKind, ClassLossParams, ClassTerms, IGNORE, class_loss, class_loss_with,
};

use crate::{Timed, backward, forward, noise};

/// Number of anchors of P3 to P7.
const LAYOUT: BreakdownLayout = BreakdownLayout { level_anchors: [36_864, 9_216, 2_304, 576, 144] };
const ANCHORS: usize = 49_104;
const CLASSES: usize = 80;
/// One of this many anchors has an object, and another one is ignored.
const RARE: usize = 500;

/// The classes of the anchors.
fn ids(device: &Device) -> Tensor<1, Int> {
    let class = |i: usize| match i % RARE {
        0 => (i / RARE % CLASSES) as i32,
        1 => IGNORE,
        _ => BACKGROUND,
    };
    Tensor::from_data(TensorData::new((0..ANCHORS).map(class).collect::<Vec<i32>>(), [ANCHORS]), device)
}

pub fn all(c: &mut Criterion, device: &Device) {
    let training = device.clone().autodiff();
    kinds(c, device, &training);
    breakdowns(c, &training);
}

/// Times two kinds of the loss with their gradients.
fn kinds(c: &mut Criterion, device: &Device, training: &Device) {
    let kinds = [("focal", ClassLossKind::Focal, 2.0), ("cross_entropy", ClassLossKind::CrossEntropy, 0.0)];
    for (name, kind, gamma) in kinds {
        let p = ClassLossParams { kind, alpha: 0.25, gamma };
        let work = Throughput::Elements((ANCHORS * CLASSES) as u64);
        let timed = |direction| Timed { kernel: "class_loss", direction, layer: name, work: work.clone() };
        let (logits, classes) = (noise([ANCHORS, CLASSES], device), ids(device));
        forward(c, &timed("forward"), || class_loss(logits.clone(), classes.clone(), p));
        let (logits, classes) = (noise([ANCHORS, CLASSES], training).require_grad(), ids(training));
        // The forward pass may already compute the gradient, so both are timed together.
        forward(c, &timed("both"), || class_loss(logits.clone(), classes.clone(), p).loss.backward());
        backward(c, &timed("gradient"), || class_loss(logits.clone(), classes.clone(), p).loss);
    }
}

/// Times the focal loss and its gradient with and without the breakdown. For logits at the prior all losses fall into
/// few bins; for spread logits they fall into many.
fn breakdowns(c: &mut Criterion, training: &Device) {
    let p = ClassLossParams { kind: ClassLossKind::Focal, alpha: 0.25, gamma: 2.0 };
    let work = Throughput::Elements((ANCHORS * CLASSES) as u64);
    let cases = [
        ("at_prior", 0.1, None),
        ("at_prior_breakdown", 0.1, Some(LAYOUT)),
        ("spread", 3.0, None),
        ("spread_breakdown", 3.0, Some(LAYOUT)),
    ];
    for (layer, deviation, layout) in cases {
        let timed = Timed { kernel: "class_loss", direction: "both", layer, work: work.clone() };
        let logits = noise([ANCHORS, CLASSES], training) * deviation - 4.6;
        let (logits, classes) = (logits.detach().require_grad(), ids(training));
        forward(c, &timed, || {
            class_loss_with(logits.clone(), classes.clone(), p, &ClassTerms::default(), layout).loss.backward()
        });
    }
}
