//! The interpreter of the forward pass that counts parameters, multiply-adds and memory without computing any map.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::Param;
use burn::tensor::Tensor;
use foveal_kernels::Activation;
use serde::Serialize;

use crate::graph::{Graph, Named};
use crate::scopes::Scopes;
use crate::{Conv2d, Norm, NormKind};

/// Number of bytes of an `f32`.
const F32: u64 = 4;

/// The counts of one layer in the forward pass that a [`Counter`] interpreted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCount {
    /// Name of the layer in the network, as in torchvision, such as `backbone.body.conv1`.
    pub name: String,
    /// Description of the kind of layer, such as `3x3 convolution, stride 2`.
    pub kind: String,
    /// Shapes of the outputs, `[batch, channels, height, width]`. A layer that several pyramid levels share has one
    /// shape for each level, other layers have one shape.
    pub outputs: Vec<[usize; 4]>,
    /// Number of values that can be trained: weights, biases, scales and shifts. The values of frozen convolutions
    /// count as well; those of a frozen batch norm count as buffers.
    pub parameters: u64,
    /// Number of values that are stored and never trained: running statistics, and all four vectors of a frozen batch
    /// norm.
    pub buffers: u64,
    /// Number of multiply-adds of a forward pass over the whole batch. As in the counts of torchvision and fvcore, only
    /// those of convolutions are counted.
    pub multiply_adds: u64,
}

/// The shape of a feature map, which a [`Counter`] uses in place of the computed map.
#[derive(Clone, Debug)]
pub struct CountedMap {
    /// Number that distinguishes this map from all others of the forward pass.
    id: usize,
    /// `[batch, channels, height, width]`
    shape: [usize; 4],
    /// Whether the map depends on a parameter that is trained, so that a backward pass goes through it.
    tracked: bool,
}

impl CountedMap {
    /// The shape of the map, `[batch, channels, height, width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Number of bytes of the values of the map in `f32`.
    pub fn bytes(&self) -> u64 {
        F32 * self.shape.iter().map(|n| *n as u64).product::<u64>()
    }
}

/// The shape of the values of all anchors, which a [`Counter`] uses in place of the computed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedRows {
    /// The shape of the values, `[batch, anchors, values]`.
    pub shape: [usize; 3],
}

/// The unfolded input of a convolution (im2col): the matrix `[batch * out_height * out_width, in_channels * kernel *
/// kernel]` whose product with the weights is the convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Name of the layer, as in [`LayerCount::name`].
    pub layer: String,
    /// Number of bytes of the matrix in `f32`, for the whole batch and one map.
    pub bytes: u64,
}

/// The interpreter of a forward pass that counts parameters, multiply-adds and the memory that a backward pass needs.
///
/// The memory is that of the autodiff nodes of the fused CPU kernels: a convolution keeps its input if its weight is
/// trained and its output if a ReLU follows, and a norm that is trained keeps its input, unless it is part of the
/// convolution because its statistics are fixed. If two operations keep the same map, the map is counted once.
#[derive(Debug, Default)]
pub struct Counter {
    scopes: Scopes,
    layers: Vec<LayerCount>,
    maps: usize,
    kept: BTreeMap<usize, u64>,
    /// Number of bytes of the largest map.
    largest: u64,
    /// The largest unfolded input of a convolution.
    columns: Option<Columns>,
    /// Number of values in parameters that are trained.
    trained: u64,
}

impl Counter {
    /// Makes a counter whose counts are all zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the input of a forward pass: the images of a batch.
    ///
    /// # Shapes
    /// - shape: `[batch, 3, height, width]`
    pub fn images(&mut self, shape: [usize; 4]) -> CountedMap {
        self.map(shape, false)
    }

    /// Returns the counts of all layers in the order of the forward pass.
    pub fn into_layers(self) -> Vec<LayerCount> {
        self.layers
    }

    /// Number of values in parameters that are trained, without those that are frozen.
    pub fn trained_parameters(&self) -> u64 {
        self.trained
    }

    /// Number of bytes of the maps that stay in memory from the forward to the backward pass.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.values().sum()
    }

    /// Number of bytes of the largest map of the forward pass.
    pub fn largest_map_bytes(&self) -> u64 {
        self.largest
    }

    /// The largest unfolded input of a convolution with a kernel larger than 1x1, among those that a GPU may compute
    /// through a matrix product: every convolution of one group and stride 1, whose forward pass and gradients can take
    /// that way, and those of one group and another stride if their weights are trained. Burn unfolds no input for
    /// several groups. `None` if there is none.
    pub fn largest_columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn map(&mut self, shape: [usize; 4], tracked: bool) -> CountedMap {
        self.maps += 1;
        let map = CountedMap { id: self.maps, shape, tracked };
        self.largest = self.largest.max(map.bytes());
        map
    }

    fn keep(&mut self, map: &CountedMap) {
        self.kept.insert(map.id, map.bytes());
    }

    fn add_conv(&mut self, conv: Named<'_, Conv2d>, outputs: Vec<[usize; 4]>) {
        let [out_channels, in_group, kernel, _] = conv.layer.weight.dims();
        let options = conv.layer.options;
        let weights = (out_channels * in_group * kernel * kernel) as u64;
        if kernel > 1 && options.groups == 1 && (options.stride == 1 || is_trained(&conv.layer.weight)) {
            let row = (in_group * kernel * kernel) as u64;
            let rows = outputs.iter().map(|[batch, _, height, width]| (batch * height * width) as u64).max();
            let bytes = F32 * row * rows.unwrap_or(0);
            if self.columns.as_ref().is_none_or(|largest| largest.bytes < bytes) {
                self.columns = Some(Columns { layer: self.scopes.path(conv.name), bytes });
            }
        }
        let positions: u64 = outputs.iter().map(|[batch, _, height, width]| (batch * height * width) as u64).sum();
        let mut kind = format!("{kernel}x{kernel} convolution");
        if options.stride > 1 {
            kind += &format!(", stride {}", options.stride);
        }
        if options.groups > 1 {
            kind += &format!(", {} groups", options.groups);
        }
        let bias = if conv.layer.bias.is_some() { out_channels as u64 } else { 0 };
        self.trained += if is_trained(&conv.layer.weight) { weights } else { 0 };
        self.trained += if conv.layer.bias.as_ref().is_some_and(is_trained) { bias } else { 0 };
        self.layers.push(LayerCount {
            name: self.scopes.path(conv.name),
            kind,
            outputs,
            parameters: weights + bias,
            buffers: 0,
            multiply_adds: weights * positions,
        });
    }

    fn add_norm(&mut self, norm: Named<'_, Norm>, outputs: Vec<[usize; 4]>) {
        let channels = norm.layer.weight.dims()[0] as u64;
        let (kind, parameters, buffers) = match norm.layer.kind {
            NormKind::Frozen => ("frozen batch norm".to_owned(), 0, 4 * channels),
            NormKind::FrozenStatistics => ("batch norm with fixed statistics".to_owned(), 2 * channels, 2 * channels),
            NormKind::Batch => ("batch norm".to_owned(), 2 * channels, 2 * channels),
            NormKind::Group { groups } => (format!("group norm, {groups} groups"), 2 * channels, 0),
        };
        self.trained += if is_trained(&norm.layer.weight) { parameters } else { 0 };
        let name = self.scopes.path(norm.name);
        self.layers.push(LayerCount { name, kind, outputs, parameters, buffers, multiply_adds: 0 });
    }

    /// The result of a convolution for one map. Its input is kept if the weight is trained.
    fn convolve(&mut self, conv: &Conv2d, x: &CountedMap, also_tracked: bool) -> CountedMap {
        let learns = is_trained(&conv.weight) || conv.bias.as_ref().is_some_and(is_trained);
        if is_trained(&conv.weight) {
            self.keep(x);
        }
        self.map(conv_output(conv, x.shape), x.tracked || learns || also_tracked)
    }
}

fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.is_require_grad()
}

fn conv_output(conv: &Conv2d, [batch, _, height, width]: [usize; 4]) -> [usize; 4] {
    let [channels, _, kernel, _] = conv.weight.dims();
    let side = |n: usize| (n + 2 * conv.options.padding - kernel) / conv.options.stride + 1;
    [batch, channels, side(height), side(width)]
}

impl Graph for Counter {
    type Map = CountedMap;
    type Levels = Vec<CountedMap>;
    type Rows = CountedRows;

    fn scope<T>(&mut self, name: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.enter(name);
        let out = inner(self);
        self.scopes.exit();
        out
    }

    fn conv(&mut self, conv: Named<'_, Conv2d>, x: CountedMap) -> CountedMap {
        let y = self.convolve(conv.layer, &x, false);
        self.add_conv(conv, vec![y.shape]);
        y
    }

    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: CountedMap,
        residual: Option<CountedMap>,
        activation: Activation,
    ) -> CountedMap {
        let norm_learns = norm.layer.learns();
        let residual_tracked = residual.as_ref().is_some_and(|r| r.tracked);
        if norm_learns && conv.layer.runs_as_one(norm.layer) {
            // The scale is a part of the weight.
            self.keep(&x);
        }
        let mut y = self.convolve(conv.layer, &x, norm_learns || residual_tracked);
        self.add_conv(conv, vec![y.shape]);
        self.add_norm(norm, vec![y.shape]);
        if !conv.layer.runs_as_one(norm.layer) {
            if y.tracked {
                self.keep(&y);
            }
            y = self.map(y.shape, y.tracked);
            // A group norm without a residual recomputes the mask of its ReLU from its input; the others keep the
            // output.
            let keeps_no_output = matches!(norm.layer.kind, NormKind::Group { .. }) && residual.is_none();
            if keeps_no_output {
                return y;
            }
        }
        if y.tracked && activation == Activation::Relu {
            self.keep(&y);
        }
        y
    }

    fn max_pool(&mut self, x: CountedMap) -> CountedMap {
        let [batch, channels, height, width] = x.shape;
        let y = self.map([batch, channels, height.div_ceil(2), width.div_ceil(2)], x.tracked);
        self.layers.push(LayerCount {
            name: self.scopes.path("maxpool"),
            kind: "3x3 max pooling, stride 2".to_owned(),
            outputs: vec![y.shape],
            parameters: 0,
            buffers: 0,
            multiply_adds: 0,
        });
        y
    }

    fn relu(&mut self, x: CountedMap) -> CountedMap {
        let y = self.map(x.shape, x.tracked);
        if y.tracked {
            self.keep(&y);
        }
        y
    }

    fn upsample_add(&mut self, lateral: CountedMap, top: CountedMap) -> CountedMap {
        self.map(lateral.shape, lateral.tracked || top.tracked)
    }

    fn levels(&mut self, maps: &[CountedMap], _norms: bool) -> Vec<CountedMap> {
        // All levels are copied into one tensor.
        maps.iter().map(|map| self.map(map.shape, map.tracked)).collect()
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: Vec<CountedMap>,
        activation: Activation,
    ) -> Vec<CountedMap> {
        let norm_learns = norm.is_some_and(|norm| norm.layer.learns());
        let mut y: Vec<CountedMap> = x.iter().map(|x| self.convolve(conv.layer, x, norm_learns)).collect();
        let shapes: Vec<[usize; 4]> = y.iter().map(|y| y.shape).collect();
        self.add_conv(conv, shapes.clone());
        if let Some(norm) = norm {
            self.add_norm(norm, shapes);
            y.iter().filter(|y| y.tracked).for_each(|y| self.keep(y));
            y = y.into_iter().map(|y| self.map(y.shape, y.tracked)).collect();
        } else if activation == Activation::Relu {
            y.iter().filter(|y| y.tracked).for_each(|y| self.keep(y));
        }
        y
    }

    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: Vec<CountedMap>) -> Vec<CountedMap> {
        let (count, trained) = (factors.layer.dims()[0] as u64, is_trained(factors.layer));
        self.layers.push(LayerCount {
            name: self.scopes.path(factors.name),
            kind: "factor of each level".to_owned(),
            outputs: x.iter().map(|x| x.shape).collect(),
            parameters: count,
            buffers: 0,
            multiply_adds: 0,
        });
        if trained {
            // The gradient of a factor is computed from the map.
            self.trained += count;
            x.iter().for_each(|x| self.keep(x));
        }
        x.iter().map(|x| self.map(x.shape, x.tracked || trained)).collect()
    }

    fn rows(&mut self, x: Vec<CountedMap>, values: usize) -> CountedRows {
        let batch = x.first().map_or(0, |map| map.shape[0]);
        let numbers: usize = x.iter().map(|map| map.shape[1..].iter().product::<usize>()).sum();
        CountedRows { shape: [batch, numbers / values, values] }
    }
}
