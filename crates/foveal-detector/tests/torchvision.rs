//! Compares the whole network with torchvision's, stage by stage: features, detections, losses and gradients.
//! Fixtures and their margins: `scripts/reference/retinanet.py`.
// burn-ndarray is deprecated upstream; it stays supported here.
#![allow(deprecated)]

mod fixture;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use fixture::Fixture;
use foveal_anchors::{Anchors, ImageTargets, MatcherConfig, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::Normalizer;
use foveal_detector::{Dense, ImageFrame, RetinaNet, postprocess};
use foveal_image::{Prepared, pad_batch};
use foveal_nn::Eager;
use foveal_weights::ParamPath;

/// max |difference| over max |reference|.
fn relative(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let peak = |v: &mut dyn Iterator<Item = f32>| v.fold(0f32, f32::max);
    let difference = peak(&mut found.iter().zip(reference).map(|(a, b)| (a - b).abs()));
    difference / peak(&mut reference.iter().map(|v| v.abs())).max(f32::MIN_POSITIVE)
}

fn close(what: &str, found: &[f32], reference: &[f32], tolerance: f32) {
    let error = relative(found, reference);
    assert!(error <= tolerance, "{what}: relative difference {error:e} above {tolerance:e}");
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// The gradient of one parameter, by its torchvision name.
struct FindGradient<'a> {
    path: ParamPath,
    wanted: &'a str,
    gradients: &'a Gradients,
    found: Option<Vec<f32>>,
}

impl ModuleVisitor for FindGradient<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.name() == self.wanted {
            self.found = param.val().grad(self.gradients).map(values);
        }
    }
}

fn prepared(fixture: &Fixture) -> Vec<Prepared> {
    let preprocess = fixture.preprocess();
    (0..fixture.images()).map(|i| preprocess.apply(&fixture.image(i))).collect()
}

fn targets(fixture: &Fixture, anchors: &Anchors) -> Vec<ImageTargets> {
    (0..fixture.images())
        .map(|i| {
            let boxes = fixture.boxes(&format!("target.{i}.resized_boxes"));
            let labels: Vec<u32> = fixture.ints(&format!("target.{i}.labels")).iter().map(|l| *l as u32).collect();
            image_targets(anchors, &boxes, &labels, &[], &MatcherConfig::default())
        })
        .collect()
}

/// Forward, losses and gradients on one device.
fn training_agrees(fixture: &Fixture, device: &Device) -> (RetinaNet, Tensor<4>, Dense) {
    let device = device.clone().autodiff();
    let model = fixture.model(&device);
    let images = prepared(fixture);
    let batch = pad_batch(&images);
    close("preprocessed batch", &batch.data, &fixture.floats("batch"), 1e-5);
    let shape = [batch.batch, 3, batch.height, batch.width];
    let input = Tensor::<4>::from_data(TensorData::new(batch.data, shape), &device);

    let output = model.run(&mut Eager, input.clone());
    for (level, map) in output.levels.into_iter().enumerate() {
        let name = format!("pyramid.p{}", level + 3);
        close(&name, &values(map), &fixture.floats(&name), 1e-4);
    }
    let dense = model.forward(input.clone());
    assert_eq!(dense.grids, grid_sizes(batch.height, batch.width));
    close("logits", &values(dense.logits.clone()), &fixture.floats("cls_logits"), 1e-4);
    close("deltas", &values(dense.deltas.clone()), &fixture.floats("bbox_regression"), 1e-4);

    let anchors = fixture.model_config().anchor_boxes(batch.height, batch.width, &dense.grids);
    let targets = targets(fixture, &anchors);
    let config = fixture.loss();
    let normalizer = Normalizer::of(config.normalizer, &targets);
    let losses = config.forward(dense.logits.clone(), dense.deltas.clone(), &targets, normalizer);
    close("class loss", &values(losses.class), &fixture.floats("loss.classification"), 1e-5);
    close("box loss", &values(losses.boxes), &fixture.floats("loss.bbox_regression"), 1e-5);

    let gradients = losses.total.backward();
    for name in fixture.gradients() {
        let mut find = FindGradient { path: ParamPath::default(), wanted: &name, gradients: &gradients, found: None };
        model.visit(&mut find);
        let found = find.found.unwrap_or_else(|| panic!("{name} has no gradient"));
        close(&name, &found, &fixture.floats(&format!("grad.{name}")), 1e-3);
    }
    (model, input, dense)
}

/// Checks for the same set of detections: boxes within 0.05 pixels, scores within 1e-4. Detections whose scores are
/// that close may be in another order. torchvision's detections without area, which clipping causes, are left out.
fn detections_agree(fixture: &Fixture, model: &RetinaNet, input: Tensor<4>) {
    let dense = model.valid().forward(input.inner());
    let [_, _, height, width] = model_input_dims(fixture);
    let anchors = fixture.model_config().anchor_boxes(height, width, &dense.grids);
    let frames: Vec<ImageFrame> = prepared(fixture).iter().map(ImageFrame::from).collect();
    let found = postprocess(&dense, &anchors, &frames, &fixture.post(), None).unwrap();
    for (i, found) in found.iter().enumerate() {
        let boxes = fixture.boxes(&format!("detection.{i}.boxes"));
        let scores = fixture.floats(&format!("detection.{i}.scores"));
        let labels = fixture.ints(&format!("detection.{i}.labels"));
        let with_area: Vec<usize> = (0..boxes.len()).filter(|&j| !boxes[j].is_degenerate()).collect();
        let boxes: Vec<BBox> = with_area.iter().map(|&j| boxes[j]).collect();
        let scores: Vec<f32> = with_area.iter().map(|&j| scores[j]).collect();
        let labels: Vec<_> = with_area.iter().map(|&j| labels[j]).collect();
        assert_eq!(found.len(), boxes.len(), "image {i}: number of detections");
        let mut free: Vec<usize> = (0..boxes.len()).collect();
        for (rank, d) in found.iter().enumerate() {
            let same = |j: &usize| {
                let (a, b) = (d.bbox, boxes[*j]);
                let far = [a.x1 - b.x1, a.y1 - b.y1, a.x2 - b.x2, a.y2 - b.y2].iter().any(|v| v.abs() > 0.05);
                !far && labels[*j] as u32 == d.class && (scores[*j] - d.score).abs() <= 1e-4
            };
            let at = free.iter().position(&same).unwrap_or_else(|| panic!("image {i}: {d:?} is not torchvision's"));
            let j = free.remove(at);
            assert!((scores[j] - scores[rank]).abs() <= 1e-4, "image {i}: rank {rank} holds torchvision's {j}");
        }
    }
}

fn model_input_dims(fixture: &Fixture) -> [usize; 4] {
    let batch = pad_batch(&prepared(fixture));
    [batch.batch, 3, batch.height, batch.width]
}

fn whole(name: &str, device: Device) {
    let fixture = Fixture::read(name);
    let (model, input, _) = training_agrees(&fixture, &device);
    detections_agree(&fixture, &model, input);
}

#[test]
fn v1_on_flex() {
    whole("retinanet_v1", Device::flex());
}

#[test]
fn v1_on_ndarray() {
    whole("retinanet_v1", Device::ndarray());
}

#[test]
fn v2_on_flex() {
    whole("retinanet_v2", Device::flex());
}

#[test]
fn v2_on_ndarray() {
    whole("retinanet_v2", Device::ndarray());
}

#[test]
fn tiny_on_flex() {
    whole("retinanet_tiny", Device::flex());
}

/// Runs on any adapter. Without a GPU, scripts/check sets up a software Vulkan implementation.
#[cfg(feature = "wgpu")]
#[test]
fn tiny_on_wgpu() {
    training_agrees(&Fixture::read("retinanet_tiny"), &foveal_kernels::test_adapter());
}
