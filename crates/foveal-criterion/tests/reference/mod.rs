//! The losses of two images against fixtures/losses.json, which scripts/reference/losses.py made with torch and
//! torchvision in double precision.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{ImageTargets, Positive};
use foveal_boxes::{BBox, encode};
use foveal_criterion::{BoxLossKind, ClassLossKind, ClassWeights, LossConfig, Normalizer, NormalizerKind, PerClass};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    gamma: Vec<f64>,
    class_weights: Vec<f64>,
    beta: f64,
    box_weight: f64,
    /// `[images][anchors]`.
    classes: Vec<Vec<i32>>,
    /// Boxes of the positive anchors, `[positives]`.
    anchors: Vec<[f32; 4]>,
    /// Boxes of the objects of the positive anchors, `[positives]`.
    objects: Vec<[f32; 4]>,
    /// The rows of the positive anchors among the anchors of all images, `[positives]`.
    rows: Vec<usize>,
    logits: Vec<Vec<Vec<f32>>>,
    deltas: Vec<Vec<[f32; 4]>>,
    results: Vec<Results>,
}

/// The losses with one normalizer.
#[derive(Deserialize)]
struct Results {
    normalizer: NormalizerKind,
    class: f32,
    /// `[images][anchors][classes]`.
    class_gradient: Vec<Vec<Vec<f32>>>,
    boxes: Vec<BoxResult>,
}

/// A box loss and its gradient with respect to the deltas of the positive anchors, `[positives]`.
#[derive(Deserialize)]
struct BoxResult {
    kind: BoxLossKind,
    value: f32,
    gradient: Vec<[f32; 4]>,
}

impl Fixture {
    fn read() -> Self {
        serde_json::from_str(include_str!("../fixtures/losses.json")).expect("the fixture is valid")
    }

    fn targets(&self) -> Vec<ImageTargets> {
        let bbox = |[x1, y1, x2, y2]: [f32; 4]| BBox::new(x1, y1, x2, y2);
        let of = |(image, classes): (usize, &Vec<i32>)| {
            let first = image * classes.len();
            let positives =
                self.rows.iter().enumerate().filter(|(_, row)| (first..first + classes.len()).contains(row));
            let positive = |(i, row): (usize, &usize)| {
                let (anchor_box, object) = (bbox(self.anchors[i]), bbox(self.objects[i]));
                let (anchor, class) = (row - first, classes[row - first] as u32);
                Positive { anchor: anchor as u32, class, anchor_box, object, delta: encode(&anchor_box, &object) }
            };
            ImageTargets { classes: classes.clone(), positives: positives.map(positive).collect() }
        };
        self.classes.iter().enumerate().map(of).collect()
    }
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(largest > 0.0 && off <= tolerance * largest, "{what}: {off} of {largest}: {found:?} {expected:?}");
}

/// Compares the quality focal loss with class weights and an exponent by class, together with every box loss under each
/// normalizer, and all gradients. `tolerance` is relative to the largest value of a tensor.
pub(crate) fn quality_focal_and_every_box_loss(device: &Device, tolerance: f32) {
    let device = device.clone().autodiff();
    let fixture = Fixture::read();
    let targets = fixture.targets();
    let [images, anchors] = [fixture.classes.len(), fixture.classes[0].len()];
    let leaf = |values: Vec<f32>| {
        let columns = values.len() / (images * anchors);
        Tensor::<3>::from_data(TensorData::new(values, [images, anchors, columns]), &device).require_grad()
    };
    let read = |t: Tensor<3>| t.into_data().try_to_vec::<f32>().expect("f32 values");
    assert_eq!(fixture.results.len(), 2, "normalizers");
    for results in &fixture.results {
        assert_eq!(results.boxes.len(), 5, "box losses");
        for boxes in &results.boxes {
            let what = format!("{:?}, {:?}", results.normalizer, boxes.kind);
            let config = LossConfig {
                kind: ClassLossKind::QualityFocal,
                gamma: PerClass::Each(fixture.gamma.clone()),
                class_weights: ClassWeights::Each(fixture.class_weights.clone()),
                box_kind: boxes.kind,
                beta: fixture.beta,
                box_weight: fixture.box_weight,
                normalizer: results.normalizer,
                ..LossConfig::default()
            };
            let logits = leaf(fixture.logits.concat().concat());
            let deltas = leaf(fixture.deltas.concat().concat());
            let normalizer = Normalizer::of(config.normalizer, &targets);
            let losses = config.forward(logits.clone(), deltas.clone(), &targets, normalizer);
            close(&what, &[losses.class.into_scalar()], &[results.class], tolerance);
            close(&what, &[losses.boxes.into_scalar()], &[boxes.value], tolerance);

            let grads = losses.total.backward();
            let of_logits = read(logits.grad(&grads).expect("the logits have a gradient"));
            close(&what, &of_logits, &results.class_gradient.concat().concat(), tolerance);
            let of_deltas = read(deltas.grad(&grads).expect("the deltas have a gradient"));
            // The IoU in the class loss is a constant, so the deltas have the gradient of the box loss alone.
            let mut expected = vec![[0.0; 4]; images * anchors];
            for (row, gradient) in fixture.rows.iter().zip(&boxes.gradient) {
                expected[*row] = gradient.map(|g| fixture.box_weight as f32 * g);
            }
            close(&what, &of_deltas, &expected.concat(), tolerance);
        }
    }
}
