//! Times of the convolutions: forward pass, input gradient and weight gradient.

use burn::tensor::{Device, Tensor};
use criterion::{Criterion, Throughput};
use foveal_kernels::{ConvOptions, conv2d};

use crate::{Timed, backward, forward, noise};

/// A convolution of one image of `size` x `size` pixels, padded so that the output has the same size (half of it with a
/// stride of 2).
struct Layer {
    kernel: usize,
    inputs: usize,
    outputs: usize,
    size: usize,
    stride: usize,
    groups: usize,
}

const fn layer(kernel: usize, inputs: usize, outputs: usize, size: usize, stride: usize) -> Layer {
    Layer { kernel, inputs, outputs, size, stride, groups: 1 }
}

/// A 3x3 layer of ResNeXt in 32 groups, with the same number of input and output channels.
const fn grouped(channels: usize, size: usize, stride: usize) -> Layer {
    Layer { groups: 32, ..layer(3, channels, channels, size, stride) }
}

const LAYERS: [Layer; 21] = [
    // The stem.
    layer(7, 3, 64, 512, 2),
    // Bottlenecks of layer1 .. layer4.
    layer(1, 64, 256, 128, 1),
    layer(1, 256, 64, 128, 1),
    layer(3, 64, 64, 128, 1),
    layer(3, 128, 128, 128, 2),
    layer(1, 512, 128, 64, 1),
    layer(3, 128, 128, 64, 1),
    layer(1, 1024, 256, 32, 1),
    layer(3, 256, 256, 32, 1),
    layer(1, 512, 1024, 64, 2),
    layer(3, 512, 512, 16, 1),
    layer(1, 512, 2048, 16, 1),
    // The pyramid and the towers on P3, P5 and P7; the last layers of the heads.
    layer(3, 256, 256, 64, 1),
    layer(3, 256, 256, 16, 1),
    layer(3, 256, 256, 4, 1),
    layer(3, 256, 720, 64, 1),
    layer(3, 256, 36, 64, 1),
    // ResNeXt-50 32x4d: layer1, the first block of layer2, layer3, layer4.
    grouped(128, 128, 1),
    grouped(256, 128, 2),
    grouped(512, 32, 1),
    grouped(1024, 16, 1),
];

impl Layer {
    fn name(&self) -> String {
        let stride = if self.stride > 1 { format!("s{}", self.stride) } else { String::new() };
        let groups = if self.groups > 1 { format!("g{}", self.groups) } else { String::new() };
        format!("{}to{}at{}{stride}{groups}", self.inputs, self.outputs, self.size)
    }

    /// Number of floating-point operations of one direction. The forward pass and both gradients have the same number.
    fn flops(&self) -> u64 {
        let out = self.size.div_ceil(self.stride);
        2 * (self.inputs / self.groups * self.outputs * self.kernel * self.kernel * out * out) as u64
    }

    fn run(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions { stride: self.stride, padding: self.kernel / 2, groups: self.groups };
        conv2d(x, weight, None, options)
    }
}

pub fn all(c: &mut Criterion, device: &Device) {
    let training = device.clone().autodiff();
    for layer in LAYERS {
        let (kernel, name) = (format!("conv{0}x{0}", layer.kernel), layer.name());
        let timed =
            |direction| Timed { kernel: &kernel, direction, layer: &name, work: Throughput::Elements(layer.flops()) };
        let images = [1, layer.inputs, layer.size, layer.size];
        let weights = [layer.outputs, layer.inputs / layer.groups, layer.kernel, layer.kernel];
        let (x, w) = (noise(images, device), noise(weights, device));
        forward(c, &timed("forward"), || layer.run(x.clone(), w.clone()));
        let (x, w) = (noise(images, &training), noise(weights, &training));
        backward(c, &timed("input_gradient"), || layer.run(x.clone().require_grad(), w.clone()));
        backward(c, &timed("weight_gradient"), || layer.run(x.clone(), w.clone().require_grad()));
    }
}
