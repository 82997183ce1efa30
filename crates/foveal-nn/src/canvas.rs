//! The pyramid levels in one feature map, as GPUs store them for layers without norms.

use burn::tensor::Tensor;
use foveal_kernels::{
    Activation, CANVAS_LEVELS, Canvas, CanvasLayout, MapSize, canvas, canvas_limit, canvas_maps, canvas_rows,
};

use crate::{Conv2d, ValueStats};

/// The maps of several levels in one.
#[derive(Clone, Debug)]
pub(crate) struct CanvasLevels {
    canvas: Canvas,
    /// Largest number of bytes that a tensor of a convolution may have.
    limit: u64,
    /// Whether all pixels between the levels are 0.
    gaps_are_zero: bool,
}

impl CanvasLevels {
    /// Collects maps, `[batch, channels, height, width]` for each level, if that pays for layers with as many channels
    /// as they have: there are several, on a GPU, and no tensor of a convolution exceeds the [limit](canvas_limit).
    pub(crate) fn of(maps: &[Tensor<4>]) -> Option<Self> {
        let first = maps.first()?;
        let limit = canvas_limit(&first.device())?;
        let sizes: Vec<MapSize> = maps.iter().map(MapSize::of).collect();
        let channels = first.dims()[1];
        let bytes = largest_bytes(first, &CanvasLayout::new(&sizes), [channels; 2]);
        ((2..=CANVAS_LEVELS).contains(&maps.len()) && bytes <= limit).then(|| Self::within(maps, limit))
    }

    /// Collects maps. No tensor of a later convolution exceeds `limit` bytes.
    pub(crate) fn within(maps: &[Tensor<4>], limit: u64) -> Self {
        Self { canvas: canvas(maps), limit, gaps_are_zero: true }
    }

    /// Whether no tensor of a convolution by this layer exceeds the limit.
    pub(crate) fn takes(&self, layer: &Conv2d) -> bool {
        let [outputs, inputs, _, _] = layer.weight.dims();
        largest_bytes(&self.canvas.map, &self.canvas.layout, [inputs, outputs]) <= self.limit
    }

    /// Computes `activation(conv(x))` for all levels. The layer must have a 3x3 kernel, stride 1, padding 1 and one
    /// group.
    ///
    /// The pixels between the levels become 0 if there is an activation. A layer without one is taken for the last
    /// layer, whose pixels between the levels nobody reads; if another layer follows all the same, they become 0 before
    /// it.
    pub(crate) fn convolved(self, layer: &Conv2d, activation: Activation) -> Self {
        let Canvas { map, mask, layout } = self.canvas;
        let map = if self.gaps_are_zero { map } else { map * mask.clone() };
        let gaps_are_zero = activation != Activation::None;
        let map = layer.forward_masked(map, activation, gaps_are_zero.then(|| mask.clone()));
        Self { canvas: Canvas { map, mask, layout }, gaps_are_zero, ..self }
    }

    /// The map of each level.
    pub(crate) fn maps(&self) -> Vec<Tensor<4>> {
        canvas_maps(&self.canvas.map, &self.canvas.layout)
    }

    /// The values of all anchors, `[batch, anchors, values]`.
    pub(crate) fn rows(self, values: usize) -> Tensor<3> {
        canvas_rows(self.canvas.map, &self.canvas.layout, values)
    }

    /// The statistics of the values of all levels, without the pixels between them.
    pub(crate) fn stats(&self) -> ValueStats {
        let channels = self.canvas.map.dims()[1];
        ValueStats::of_tensor(&self.clone().rows(channels))
    }
}

/// Number of bytes of the largest tensor that a 3x3 convolution of a canvas like `map` may need: its result, or its
/// unfolded input of nine values for each pixel and input channel.
fn largest_bytes(map: &Tensor<4>, layout: &CanvasLayout, [inputs, outputs]: [usize; 2]) -> u64 {
    let values = (map.dims()[0] * layout.pixels() * outputs.max(9 * inputs)) as u64;
    values * map.dtype().size() as u64
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Gradients};

    use super::*;

    const CHANNELS: usize = 4;
    /// Values of an anchor; there are two anchors at each location.
    const VALUES: usize = 3;
    /// Heights and widths of two to five levels.
    const PYRAMIDS: [&[[usize; 2]]; 3] =
        [&[[7, 5], [4, 3]], &[[3, 9], [2, 5], [1, 3]], &[[12, 10], [6, 5], [3, 3], [2, 2], [1, 1]]];

    /// Values between -1 and 1 that look random.
    fn leaf<const D: usize>(seed: i64, shape: [usize; D], device: &Device) -> Tensor<D> {
        let n = shape.iter().product::<usize>() as i64;
        let indices = Tensor::<1, burn::tensor::Int>::arange(1000 * seed..1000 * seed + n, device).float();
        ((indices.clone() * 12.9898).sin() * (indices * 0.37).cos()).reshape(shape).detach().require_grad()
    }

    fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// A tower of two layers and a last layer.
    fn layers(device: &Device) -> Vec<Conv2d> {
        let layer = |seed, outputs| {
            let (weight, bias) = (leaf(seed, [outputs, CHANNELS, 3, 3], device), leaf(seed + 1, [outputs], device));
            Conv2d::same(weight, Some(bias), 1)
        };
        vec![layer(10, CHANNELS), layer(20, CHANNELS), layer(30, 2 * VALUES)]
    }

    /// Rows and gradients of the levels, weights and biases, where `run` applies the layers to the levels.
    fn results(sizes: &[[usize; 2]], run: impl Fn(Vec<Tensor<4>>, &[Conv2d]) -> Tensor<3>) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let levels: Vec<Tensor<4>> =
            (0..).zip(sizes).map(|(level, [h, w])| leaf(level, [2, CHANNELS, *h, *w], &device)).collect();
        let layers = layers(&device);
        let rows = run(levels.clone(), &layers);
        let factors = leaf(50, rows.dims(), &device).detach();
        let grads = (rows.clone() * factors).sum().backward();
        let grad = |t: &Tensor<4>, grads: &Gradients| to_vec(t.grad(grads).expect("a gradient"));
        let mut all = vec![to_vec(rows)];
        all.extend(levels.iter().map(|level| grad(level, &grads)));
        all.extend(layers.iter().map(|layer| grad(&layer.weight.val(), &grads)));
        let biases = layers.iter().map(|layer| layer.bias.as_ref().expect("a bias").val());
        all.extend(biases.map(|bias| to_vec(bias.grad(&grads).expect("a gradient"))));
        all
    }

    fn activation(layer: usize) -> Activation {
        if layer < 2 { Activation::Relu } else { Activation::None }
    }

    fn on_canvas(levels: Vec<Tensor<4>>, layers: &[Conv2d]) -> Tensor<3> {
        let canvas = CanvasLevels::within(&levels, u64::MAX);
        let run = |canvas: CanvasLevels, (i, layer)| canvas.convolved(layer, activation(i));
        layers.iter().enumerate().fold(canvas, run).rows(VALUES)
    }

    fn one_by_one(levels: Vec<Tensor<4>>, layers: &[Conv2d]) -> Tensor<3> {
        let each = levels.into_iter().map(|map| {
            let run = |map, (i, layer): (usize, &Conv2d)| layer.forward_activated(map, activation(i));
            let map = layers.iter().enumerate().fold(map, run);
            let [batch, channels, height, width] = map.dims();
            map.permute([0, 2, 3, 1]).reshape([batch, height * width * channels / VALUES, VALUES])
        });
        Tensor::cat(each.collect(), 1)
    }

    fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>]) {
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            let off = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(found.len() == expected.len() && off <= 1e-5 * largest, "result {i}: {off} of {largest}");
        }
    }

    #[test]
    fn layers_on_a_canvas_compute_what_they_compute_on_each_level() {
        for sizes in PYRAMIDS {
            assert_close(&results(sizes, on_canvas), &results(sizes, one_by_one));
        }
    }

    /// A layer without activation leaves numbers between the levels, which the next layer must not read.
    #[test]
    fn a_layer_may_follow_a_layer_without_activation() {
        let twice = |levels: Vec<Tensor<4>>, layers: &[Conv2d]| {
            let plain = |canvas: CanvasLevels, layer| canvas.convolved(layer, Activation::None);
            layers.iter().fold(CanvasLevels::within(&levels, u64::MAX), plain).rows(VALUES)
        };
        let expected = |levels: Vec<Tensor<4>>, layers: &[Conv2d]| {
            let each = levels.into_iter().map(|map| {
                let map = layers.iter().fold(map, |map, layer| layer.forward(map));
                let [batch, channels, height, width] = map.dims();
                map.permute([0, 2, 3, 1]).reshape([batch, height * width * channels / VALUES, VALUES])
            });
            Tensor::cat(each.collect(), 1)
        };
        assert_close(&results(PYRAMIDS[1], twice), &results(PYRAMIDS[1], expected));
    }

    #[test]
    fn statistics_leave_out_the_pixels_between_the_levels() {
        let device = Device::flex();
        let maps = [Tensor::full([1, CHANNELS, 4, 4], 2.0, &device), Tensor::full([1, CHANNELS, 2, 2], 5.0, &device)];
        let stats = CanvasLevels::within(&maps, u64::MAX).stats();
        assert_eq!((stats.count, stats.min, stats.max), (CHANNELS as u64 * 20, Some(2.0), Some(5.0)));
        assert_eq!(stats.mean, Some((16.0 * 2.0 + 4.0 * 5.0) / 20.0));
    }

    #[test]
    fn a_layer_with_too_large_tensors_is_not_taken() {
        let device = Device::flex();
        let maps = [Tensor::<4>::ones([2, CHANNELS, 4, 4], &device), Tensor::ones([2, CHANNELS, 2, 2], &device)];
        let layer = |outputs| Conv2d::same(Tensor::zeros([outputs, CHANNELS, 3, 3], &device), None, 1);
        // The canvas has 7x4 pixels.
        let pixels = 4 * 2 * 7 * 4;
        let canvas = CanvasLevels::within(&maps, pixels * 9 * CHANNELS as u64);
        assert!(
            canvas.takes(&layer(1)) && canvas.takes(&layer(9 * CHANNELS)) && !canvas.takes(&layer(9 * CHANNELS + 1))
        );
        let small = CanvasLevels::within(&maps, pixels * 9 * CHANNELS as u64 - 1);
        assert!(!small.takes(&layer(1)));
        let each = small.maps().into_iter().map(to_vec);
        assert_eq!(each.collect::<Vec<_>>(), maps.map(to_vec));
        assert!(
            CanvasLevels::of(&[Tensor::ones([1, 1, 2, 2], &device), Tensor::ones([1, 1, 1, 1], &device)]).is_none()
        );
    }
}
