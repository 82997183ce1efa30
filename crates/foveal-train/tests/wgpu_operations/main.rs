//! Counts the operations and blocks of a training step on a GPU, and finds the places where it waits for the device.
//!
//! A block is one fused kernel or one operation that is not fused. Its cost on the host is about the same whatever it
//! computes, so a step with many blocks is slow on every GPU. The counts do not depend on the speed of a device, so the
//! tests run on a software adapter. No kernel of the network runs in them, see the module `withheld`.
//!
//! Without an adapter these tests fail; `scripts/swiftshader` sets up a software one.
#![cfg(feature = "wgpu")]

mod observe;
mod step;
mod withheld;

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor};
use foveal_anchors::grid_sizes;
use foveal_backbone::{Block, Body, ResNet, StageMaps};
use foveal_criterion::{ClassLossKind, LossConfig};
use foveal_detector::RetinaNet;
use foveal_nn::{Activation, Eager, Graph, named};

use observe::{Counts, count};
use step::{BATCH, CLASSES, SIDE, Trained, losses, network, targets};
use withheld::{reads, withheld};

/// Largest factor by which a count may exceed the recorded one.
const TOLERANCE: f64 = 1.05;

/// The first measurement, of commit c45b4f9: maps of the heads as `[batch, channels, pixels]`, no kernels of foveal.
const FIRST: Blocks =
    Blocks { stem: 11, projection: 35, bottleneck: 26, pyramid: 41, heads: 838, loss: 32, update: 550, step: 1966 };
/// The numbers that must not rise. Lower them when a change saves blocks.
const RECORDED: Blocks =
    Blocks { stem: 7, projection: 21, bottleneck: 15, pyramid: 40, heads: 69, loss: 25, update: 12, step: 556 };
/// Largest number of blocks of a step that is derived from its parts: a quarter of the first one.
const GOAL: usize = FIRST.derived() / 4;
/// Largest number of blocks of a step. It is larger than the derived one, because Burn leaves some operations unfused
/// in a longer sequence.
const STEP_GOAL: usize = 620;

/// Number of blocks with a projection in a ResNet-50: the first block of each stage.
const PROJECTIONS: usize = 4;
/// Number of the other blocks in a ResNet-50.
const BOTTLENECKS: usize = 12;

/// Numbers of blocks of the parts of a step, each forward and backward, and of the whole step.
struct Blocks {
    /// The stem.
    stem: usize,
    /// A bottleneck with a projection on its shortcut.
    projection: usize,
    /// A bottleneck without a projection.
    bottleneck: usize,
    /// The feature pyramid.
    pyramid: usize,
    /// Both heads on five levels.
    heads: usize,
    /// The class loss and the box loss.
    loss: usize,
    /// Gradient norm and update of the [`step::PARAMETERS`] parameters.
    update: usize,
    /// The whole step.
    step: usize,
}

impl Blocks {
    /// The number of blocks of a whole step, derived from those of its parts. It differs from [`Blocks::step`], because
    /// fusion does not end where a part ends and does not fuse the same operations in a longer sequence.
    const fn derived(&self) -> usize {
        let backbone = self.stem + PROJECTIONS * self.projection + BOTTLENECKS * self.bottleneck;
        backbone + self.pyramid + self.heads + self.loss + self.update
    }

    /// All numbers with their names.
    fn all(&self) -> [(&'static str, usize); 9] {
        [
            ("stem", self.stem),
            ("bottleneck with projection", self.projection),
            ("bottleneck", self.bottleneck),
            ("pyramid", self.pyramid),
            ("heads", self.heads),
            ("loss", self.loss),
            ("gradient norm and update", self.update),
            ("step, derived from the parts", self.derived()),
            ("step", self.step),
        ]
    }
}

/// The default adapter with autodiff. The guard keeps other tests of this binary from using it: Burn's observer sees
/// the whole process.
fn wgpu() -> (Device, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (foveal_kernels::test_adapter().autodiff(), guard)
}

/// A withheld tensor that requires a gradient.
fn leaf<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_inner(withheld(shape, device)).require_grad()
}

/// Withheld images on a device with autodiff.
fn images(device: &Device) -> Tensor<4> {
    Tensor::from_inner(withheld([BATCH, 3, SIDE, SIDE], device))
}

/// The stem with the gradient of its weights.
fn stem(net: &ResNet, device: &Device) -> Counts {
    let forward = |images| {
        let (conv, norm) = (named("conv1", &net.conv1), named("bn1", &net.bn1));
        let x = Eager.conv_norm(conv, norm, images, None, Activation::Relu);
        Eager.max_pool(x)
    };
    count(device, || images(device), |images| forward(images).backward())
}

/// A block with the gradients of its input and its weights.
fn block(block: &Block, device: &Device) -> Counts {
    let shape = [BATCH, block.conv1.weight.dims()[1], 32, 32];
    count(device, || leaf(shape, device), |x| block.forward(&mut Eager, x).backward())
}

/// The sum of the products of tensors with withheld gradients. In the backward pass each tensor has that gradient.
fn weighted<const D: usize>(tensors: impl IntoIterator<Item = Tensor<D>>, device: &Device) -> Tensor<1> {
    let each = tensors.into_iter().map(|x| (x.clone() * Tensor::from_inner(withheld(x.dims(), device))).sum());
    each.reduce(|a, b| a + b).expect("there are tensors")
}

/// The inputs of the pyramid: C3, C4 and C5.
fn stages(net: &ResNet, device: &Device) -> StageMaps<Tensor<4>> {
    let map = |layer: &[Block], stride: usize| {
        let conv3 = layer[0].conv3.as_ref().expect("the blocks of a ResNet-50 are bottlenecks");
        leaf([BATCH, conv3.weight.dims()[0], SIDE / stride, SIDE / stride], device)
    };
    StageMaps { c3: map(&net.layer2, 8), c4: map(&net.layer3, 16), c5: map(&net.layer4, 32) }
}

/// The levels of the pyramid as leaves.
fn levels(model: &RetinaNet, device: &Device) -> Vec<Tensor<4>> {
    let channels = model.backbone.fpn.inner_blocks[0].index0.weight.dims()[0];
    grid_sizes(SIDE, SIDE).iter().map(|grid| leaf([BATCH, channels, grid.height, grid.width], device)).collect()
}

/// The logits and deltas of all anchors as leaves.
fn rows(device: &Device) -> [Tensor<3>; 2] {
    let anchors = targets()[0].classes.len();
    [CLASSES, 4].map(|values| leaf([BATCH, anchors, values], device))
}

/// Counts the parts and the whole of a step and prints what is in them.
#[allow(clippy::print_stdout, reason = "the table is shown where the test fails")]
fn measured(device: &Device) -> Blocks {
    let blocks_of = |name: &str, counts: Counts| {
        println!("{name}: {counts}");
        counts.blocks()
    };
    let model = network(device);
    let Body::ResNet(net) = &model.backbone.body;

    // The products of the outputs with their gradients are not part of the network.
    let products = count(device, || levels(&model, device), |maps| weighted(maps, device).backward()).blocks();
    let pyramid = count(
        device,
        || stages(net, device),
        |maps| weighted(model.backbone.pyramid(&mut Eager, maps), device).backward(),
    );
    let pyramid = blocks_of("pyramid", pyramid) - products;

    let products = count(device, || rows(device), |rows| weighted(rows, device).backward()).blocks();
    let heads = count(
        device,
        || levels(&model, device),
        |levels| {
            let rows = model.head.forward(&mut Eager, &levels);
            weighted([rows.logits, rows.deltas], device).backward()
        },
    );
    let heads = blocks_of("heads", heads) - products;

    let (config, targets) = (LossConfig::default(), targets());
    let loss =
        count(device, || rows(device), |[logits, deltas]| losses(&config, logits, deltas, &targets).total.backward());

    let mut trained = Trained::new(device);
    let step = count(device, || images(device), |images| trained.step(images, &config));
    let gradients = std::cell::RefCell::new(Trained::new(device));
    let update = count(
        device,
        || gradients.borrow().gradients(images(device), &config),
        |(losses, grads)| gradients.borrow_mut().update(losses, grads),
    );
    Blocks {
        stem: blocks_of("stem", stem(net, device)),
        projection: blocks_of("bottleneck with projection", block(&net.layer2[0], device)),
        bottleneck: blocks_of("bottleneck", block(&net.layer2[1], device)),
        pyramid,
        heads,
        loss: blocks_of("loss", loss),
        update: blocks_of("gradient norm and update", update),
        step: blocks_of("step", step),
    }
}

#[test]
fn wgpu_steps_have_no_more_blocks_than_recorded() {
    let (device, _guard) = wgpu();
    let found = measured(&device);
    println!("blocks{:>33} {:>9} {:>6}", "found", "recorded", "first");
    for (((name, found), (_, recorded)), (_, first)) in found.all().into_iter().zip(RECORDED.all()).zip(FIRST.all()) {
        println!("{name:<32} {found:>6} {recorded:>9} {first:>6}");
    }
    println!("goal for a step, derived{GOAL:>15}");
    for ((name, found), (_, recorded)) in found.all().into_iter().zip(RECORDED.all()) {
        assert!(
            found as f64 <= recorded as f64 * TOLERANCE,
            "{name}: {found} blocks, recorded are {recorded}; run with --nocapture for the operations in them"
        );
    }
    assert!(found.derived() <= GOAL && found.step <= STEP_GOAL, "{} of {GOAL}, {}", found.derived(), found.step);
}

#[test]
fn wgpu_steps_read_nothing_from_the_device() {
    let (device, _guard) = wgpu();
    assert!(reads(|| withheld([1], &device).into_data()), "a read of a withheld tensor is noticed");
    let kinds = [
        ClassLossKind::Focal,
        ClassLossKind::CrossEntropy,
        ClassLossKind::BalancedCrossEntropy,
        ClassLossKind::Ohem,
        ClassLossKind::QualityFocal,
    ];
    for kind in kinds {
        let config = LossConfig { kind, ..LossConfig::default() };
        let mut trained = Trained::new(&device);
        assert!(!reads(|| trained.step(images(&device), &config)), "a step with {kind:?} reads from the device");
        // Work that is still queued when the process ends makes some drivers fail.
        device.sync().expect("the device works");
    }
}
