//! Counts against values computed by hand.

use burn::tensor::{Device, Tensor};
use foveal_nn::{Activation, Conv2d, ConvOptions, Counter, Graph, Norm, NormKind, named};

/// Two groups of two channels to eight channels, 3x3, stride 2, with bias, over two images of 9x6: the result has 5x3
/// positions. Each of its 2 * 8 * 5 * 3 values takes 2 * 9 multiply-adds.
#[test]
fn a_grouped_convolution() {
    let device = Device::flex();
    let options = ConvOptions { stride: 2, padding: 1, groups: 2 };
    let conv = Conv2d::new(Tensor::zeros([8, 2, 3, 3], &device), Some(Tensor::zeros([8], &device)), options);
    let mut counter = Counter::new();
    let x = counter.images([2, 4, 9, 6]);
    let y = counter.scope(format_args!("layer1"), |counter| counter.conv(named("conv", &conv), x));
    assert_eq!(y.shape(), [2, 8, 5, 3]);
    let [layer] = counter.into_layers().try_into().unwrap();
    assert_eq!(layer.name, "layer1.conv");
    assert_eq!(layer.kind, "3x3 convolution, stride 2, 2 groups");
    assert_eq!(layer.parameters, 8 * 2 * 9 + 8);
    assert_eq!(layer.multiply_adds, 2 * 8 * 5 * 3 * 2 * 9);
}

/// A norm by stored statistics is fused: the convolution keeps its input for the weight and its output for the ReLU. A
/// norm by the statistics of the batch also keeps its own input.
#[test]
fn maps_that_a_backward_pass_needs() {
    let device = Device::flex().autodiff();
    let kept = |kind: NormKind| {
        let conv = Conv2d::same(Tensor::zeros([8, 4, 1, 1], &device), None, 1);
        let norm = Norm::new(8, kind, 1e-5, &device);
        let mut counter = Counter::new();
        let x = counter.images([1, 4, 10, 10]);
        counter.conv_norm(named("conv", &conv), named("norm", &norm), x, None, Activation::Relu);
        (counter.kept_bytes(), counter.trained_parameters())
    };
    let (x, y) = (4 * 4 * 100, 4 * 8 * 100);
    assert_eq!(kept(NormKind::Frozen), (x + y, 32));
    assert_eq!(kept(NormKind::FrozenStatistics), (x + y, 48));
    assert_eq!(kept(NormKind::Batch), (x + 2 * y, 48));
    // The mask of the ReLU is recomputed from the input of the norm.
    assert_eq!(kept(NormKind::Group { groups: 2 }), (x + y, 48));
}

/// A layer that several levels share counts its parameters once and its multiply-adds on every level.
#[test]
fn shared_layers() {
    let device = Device::flex();
    let conv = Conv2d::same(Tensor::zeros([6, 4, 3, 3], &device), None, 1);
    let mut counter = Counter::new();
    let maps = [counter.images([1, 4, 8, 8]), counter.images([1, 4, 4, 4])];
    let levels = counter.levels(&maps, false);
    let levels = counter.conv_levels(named("conv", &conv), None, levels, Activation::None);
    let rows = counter.rows(levels, 3);
    assert_eq!(rows.shape, [1, 2 * (64 + 16), 3]);
    let [layer] = counter.into_layers().try_into().unwrap();
    assert_eq!((layer.parameters, layer.multiply_adds), (6 * 4 * 9, 6 * 4 * 9 * (64 + 16)));
}
