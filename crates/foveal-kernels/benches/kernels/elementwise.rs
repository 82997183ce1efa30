//! Times of the operations that are limited by memory bandwidth: affine, group norm, pooling and upsampling.

use burn::tensor::{Device, Tensor};
use criterion::{Criterion, Throughput};
use foveal_kernels::{Activation, affine, group_norm, max_pool_3x3_s2_p1, upsample_add};

use crate::{Timed, backward, forward, noise};

/// Number of groups of a group norm, as in the layers of foveal-nn.
const NORM_GROUPS: usize = 32;
/// Constant that a norm adds to the variance, as in the layers of foveal-nn.
const NORM_EPS: f64 = 1e-5;

/// Throughput of `numbers` `f32` values in bytes.
fn bytes(numbers: usize) -> Throughput {
    Throughput::Bytes(4 * numbers as u64)
}

pub fn all(c: &mut Criterion, device: &Device) {
    let training = device.clone().autodiff();
    affines(c, device, &training);
    norms(c, device, &training);
    pools(c, device, &training);
    upsamplings(c, device, &training);
}

/// The end of a bottleneck in layer1: frozen norm, residual, ReLU.
fn affines(c: &mut Criterion, device: &Device, training: &Device) {
    let (channels, size) = (256, 128);
    let shape = [1, channels, size, size];
    let timed =
        |direction| Timed { kernel: "affine", direction, layer: "256at128", work: bytes(3 * channels * size * size) };
    let run = |x: &Tensor<4>, rest: &Tensor<4>| {
        let device = x.device();
        let (scale, shift) = (Tensor::ones([channels], &device), Tensor::zeros([channels], &device));
        affine(x.clone(), scale, shift, Some(rest.clone()), Activation::Relu)
    };
    let (x, rest) = (noise(shape, device), noise(shape, device));
    forward(c, &timed("forward"), || run(&x, &rest));
    let (x, rest) = (noise(shape, training).require_grad(), noise(shape, training).require_grad());
    backward(c, &timed("gradient"), || run(&x, &rest));
}

/// The group norm of a tower layer on P3.
fn norms(c: &mut Criterion, device: &Device, training: &Device) {
    let (channels, size) = (256, 64);
    let shape = [1, channels, size, size];
    let timed = |direction| Timed {
        kernel: "group_norm",
        direction,
        layer: "256at64",
        work: bytes(2 * channels * size * size),
    };
    let run = |x: &Tensor<4>| {
        let device = x.device();
        let (weight, bias) = (Tensor::ones([channels], &device), Tensor::zeros([channels], &device));
        group_norm(x.clone(), weight, bias, NORM_GROUPS, NORM_EPS, Activation::Relu)
    };
    let x = noise(shape, device);
    forward(c, &timed("forward"), || run(&x));
    let x = noise(shape, training).require_grad();
    backward(c, &timed("gradient"), || run(&x));
}

/// The max pooling after the stem's convolution.
fn pools(c: &mut Criterion, device: &Device, training: &Device) {
    let (channels, size) = (64, 256);
    let shape = [1, channels, size, size];
    let work = bytes(channels * size * size + channels * size * size / 4);
    let timed = |direction| Timed { kernel: "max_pool", direction, layer: "64at256", work: work.clone() };
    let x = noise(shape, device);
    forward(c, &timed("forward"), || max_pool_3x3_s2_p1(x.clone()));
    let x = noise(shape, training).require_grad();
    backward(c, &timed("gradient"), || max_pool_3x3_s2_p1(x.clone()));
}

/// The upsampling from P4 to P3.
fn upsamplings(c: &mut Criterion, device: &Device, training: &Device) {
    let (channels, size) = (256, 64);
    let (lateral, top) = ([1, channels, size, size], [1, channels, size / 2, size / 2]);
    let work = bytes(2 * channels * size * size + channels * size * size / 4);
    let timed = |direction| Timed { kernel: "upsample_add", direction, layer: "256at64", work: work.clone() };
    let (l, t) = (noise(lateral, device), noise(top, device));
    forward(c, &timed("forward"), || upsample_add(l.clone(), t.clone()));
    let (l, t) = (noise(lateral, training).require_grad(), noise(top, training).require_grad());
    backward(c, &timed("gradient"), || upsample_add(l.clone(), t.clone()));
}
