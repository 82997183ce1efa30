//! The interpreter of the forward pass that computes Burn tensors and records statistics of every layer.

use std::fmt;

use burn::module::Param;
use burn::tensor::Tensor;
use foveal_kernels::Activation;
use serde::{Deserialize, Serialize};

use crate::eager::Eager;
use crate::graph::{Graph, Named};
use crate::scopes::Scopes;
use crate::{Conv2d, LevelStats, Norm, ValueStats};

/// The operation of a forward pass that made a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A convolution with its bias.
    Convolution,
    /// A norm layer.
    Norm,
    /// The sum of a block's result and its shortcut.
    ResidualSum,
    /// The max pooling of the stem.
    MaxPooling,
    /// A ReLU that belongs to no other layer.
    Relu,
    /// The sum of a pyramid level and the enlarged level above it.
    UpsampleSum,
    /// The multiplication of each pyramid level by its learnt factor.
    LevelScale,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Convolution => "convolution",
            Self::Norm => "norm",
            Self::ResidualSum => "sum of block and shortcut",
            Self::MaxPooling => "max pooling",
            Self::Relu => "ReLU",
            Self::UpsampleSum => "sum of two pyramid levels",
            Self::LevelScale => "factor of each pyramid level",
        })
    }
}

/// Statistics of a tensor of a layer: a weight, a bias or running statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorStats {
    /// Full name of the tensor, such as `backbone.body.conv1.weight`.
    pub name: String,
    /// Statistics of its values.
    pub stats: ValueStats,
}

/// A layer that made values that are not finite from an input that is finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Full name of the layer.
    pub layer: String,
    /// The operation of the layer whose result is not finite.
    pub operation: Operation,
    /// Statistics of the input of the operation.
    pub input: ValueStats,
    /// The tensors of the layer; empty for an operation without weights.
    pub tensors: Vec<TensorStats>,
}

/// What a [`Traced`] forward pass recorded of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerTrace {
    /// Full name of the convolution, or of the operation where the layer is none.
    pub name: String,
    /// Full name of the norm that follows the convolution, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<String>,
    /// The first operation of the layer.
    pub operation: Operation,
    /// Statistics of the output, after norm, sum and activation; over all pyramid levels that share the layer.
    pub output: ValueStats,
    /// Where the values turned, if the output is not finite and the input is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
}

/// The interpreter of a forward pass that computes the same tensors as the interpreter `G` and records statistics of
/// the output of every layer. It waits for the device at every layer, because all values are read.
#[derive(Debug, Default)]
pub struct Traced<G = Eager> {
    inner: G,
    scopes: Scopes,
    layers: Vec<LayerTrace>,
    /// Number of sums of pyramid levels so far.
    sums: usize,
}

impl Traced {
    /// Makes an interpreter that has recorded nothing and computes as [`Eager`] does.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<G> Traced<G> {
    /// Makes an interpreter that has recorded nothing and computes as `inner` does.
    pub fn over(inner: G) -> Self {
        Self { inner, scopes: Scopes::default(), layers: Vec::new(), sums: 0 }
    }

    /// The records of all layers in the order of the forward pass.
    pub fn into_layers(self) -> Vec<LayerTrace> {
        self.layers
    }

    /// Records an operation without weights.
    fn plain(&mut self, name: &str, operation: Operation, output: &Tensor<4>, inputs: &[&Tensor<4>]) {
        let (name, output) = (self.scopes.path(name), ValueStats::of_tensor(output));
        let turn = (output.non_finite() > 0)
            .then(|| inputs.iter().map(|x| ValueStats::of_tensor(x)).reduce(ValueStats::merged).unwrap_or_default())
            .filter(|input| input.non_finite() == 0)
            .map(|input| Turn { layer: name.clone(), operation, input, tensors: Vec::new() });
        self.layers.push(LayerTrace { name, norm: None, operation, output, turn });
    }

    /// Records a convolution, with the norm that follows it if there is one.
    fn layer(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        output: ValueStats,
        turn: impl FnOnce(&Scopes) -> Option<Turn>,
    ) {
        let turn = if output.non_finite() > 0 { turn(&self.scopes) } else { None };
        self.layers.push(LayerTrace {
            name: self.scopes.path(conv.name),
            norm: norm.map(|norm| self.scopes.path(norm.name)),
            operation: Operation::Convolution,
            output,
            turn,
        });
    }
}

fn convolution(scopes: &Scopes, conv: Named<'_, Conv2d>, input: ValueStats) -> Turn {
    let layer = scopes.path(conv.name);
    let weight =
        TensorStats { name: format!("{layer}.weight"), stats: ValueStats::of_tensor(&conv.layer.weight.val()) };
    let bias = conv.layer.bias.as_ref().map(|bias| {
        let stats = ValueStats::of_tensor(&bias.val());
        TensorStats { name: format!("{layer}.bias"), stats }
    });
    let tensors = [weight].into_iter().chain(bias).collect();
    Turn { layer, operation: Operation::Convolution, input, tensors }
}

fn norm_layer(scopes: &Scopes, norm: Named<'_, Norm>, operation: Operation, input: ValueStats) -> Turn {
    let layer = scopes.path(norm.name);
    let stored = |running: &Option<burn::module::RunningState<Tensor<1>>>| running.as_ref().map(|r| r.value_sync());
    let tensors = [
        ("weight", Some(norm.layer.weight.val())),
        ("bias", Some(norm.layer.bias.val())),
        ("running_mean", stored(&norm.layer.running_mean)),
        ("running_var", stored(&norm.layer.running_var)),
    ];
    let tensors = tensors.into_iter().filter_map(|(name, tensor)| {
        Some(TensorStats { name: format!("{layer}.{name}"), stats: ValueStats::of_tensor(&tensor?) })
    });
    let tensors = tensors.collect();
    Turn { layer, operation, input, tensors }
}

impl<G> Graph for Traced<G>
where
    G: Graph<Map = Tensor<4>, Rows = Tensor<3>, Levels: LevelStats> + Copy,
{
    type Map = Tensor<4>;
    type Levels = G::Levels;
    type Rows = Tensor<3>;

    fn scope<T>(&mut self, name: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.enter(name);
        let out = inner(self);
        self.scopes.exit();
        out
    }

    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Tensor<4>) -> Tensor<4> {
        let y = self.inner.conv(conv, x.clone());
        self.layer(conv, None, ValueStats::of_tensor(&y), |scopes| {
            let input = ValueStats::of_tensor(&x);
            (input.non_finite() == 0).then(|| convolution(scopes, conv, input))
        });
        y
    }

    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        activation: Activation,
    ) -> Tensor<4> {
        let mut inner = self.inner;
        let y = inner.conv_norm(conv, norm, x.clone(), residual.clone(), activation);
        self.layer(conv, Some(norm), ValueStats::of_tensor(&y), |scopes| {
            let input = ValueStats::of_tensor(&x);
            let shortcut = residual.as_ref().map(ValueStats::of_tensor).unwrap_or_default();
            if input.non_finite() + shortcut.non_finite() > 0 {
                return None;
            }
            // The operations one after the other, to tell which of them made the values.
            let convolved = inner.conv(conv, x);
            let between = ValueStats::of_tensor(&convolved);
            if between.non_finite() > 0 {
                return Some(convolution(scopes, conv, input));
            }
            let normal = ValueStats::of_tensor(&norm.layer.normalised(convolved));
            if normal.non_finite() > 0 || residual.is_none() {
                return Some(norm_layer(scopes, norm, Operation::Norm, between));
            }
            Some(Turn {
                tensors: Vec::new(),
                ..norm_layer(scopes, norm, Operation::ResidualSum, normal.merged(shortcut))
            })
        });
        y
    }

    fn max_pool(&mut self, x: Tensor<4>) -> Tensor<4> {
        let y = self.inner.max_pool(x.clone());
        self.plain("maxpool", Operation::MaxPooling, &y, &[&x]);
        y
    }

    fn relu(&mut self, x: Tensor<4>) -> Tensor<4> {
        let y = self.inner.relu(x.clone());
        self.plain("relu", Operation::Relu, &y, &[&x]);
        y
    }

    fn upsample_add(&mut self, lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
        let y = self.inner.upsample_add(lateral.clone(), top.clone());
        let name = format!("upsample_add.{}", self.sums);
        self.sums += 1;
        self.plain(&name, Operation::UpsampleSum, &y, &[&lateral, &top]);
        y
    }

    fn levels(&mut self, maps: &[Tensor<4>], norms: bool) -> G::Levels {
        self.inner.levels(maps, norms)
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: G::Levels,
        activation: Activation,
    ) -> G::Levels {
        let mut inner = self.inner;
        let y = inner.conv_levels(conv, norm, x.clone(), activation);
        self.layer(conv, norm, y.stats(), |scopes| {
            let input = x.stats();
            if input.non_finite() > 0 {
                return None;
            }
            let between = inner.conv_levels(conv, None, x, Activation::None).stats();
            match norm {
                Some(norm) if between.non_finite() == 0 => Some(norm_layer(scopes, norm, Operation::Norm, between)),
                _ => Some(convolution(scopes, conv, input)),
            }
        });
        y
    }

    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: G::Levels) -> G::Levels {
        let y = self.inner.scale_levels(factors, x.clone());
        let (name, operation, output) = (self.scopes.path(factors.name), Operation::LevelScale, y.stats());
        let turn = (output.non_finite() > 0).then(|| x.stats()).filter(|input| input.non_finite() == 0).map(|input| {
            let tensors = vec![TensorStats { name: name.clone(), stats: ValueStats::of_tensor(&factors.layer.val()) }];
            Turn { layer: name.clone(), operation, input, tensors }
        });
        self.layers.push(LayerTrace { name, norm: None, operation, output, turn });
        y
    }

    fn rows(&mut self, x: G::Levels, values: usize) -> Tensor<3> {
        self.inner.rows(x, values)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Device;

    use super::*;
    use crate::{NORM_EPS, NormKind, named};

    fn conv(value: f32) -> Conv2d {
        Conv2d::same(Tensor::full([2, 2, 3, 3], value, &Device::flex()), None, 1)
    }

    fn norm() -> Norm {
        Norm::new(2, NormKind::Frozen, NORM_EPS, &Device::flex())
    }

    /// Runs a block of a convolution, a norm and a shortcut in the scope `layer1.0`, and returns its record.
    fn trace(conv: &Conv2d, norm: &Norm, x: f32, shortcut: f32) -> LayerTrace {
        let map = |value: f32| Tensor::full([1, 2, 4, 4], value, &Device::flex());
        let mut graph = Traced::new();
        let expected =
            Eager.conv_norm(named("a", conv), named("b", norm), map(x), Some(map(shortcut)), Activation::Relu);
        let y = graph.scope(format_args!("layer1.0"), |graph| {
            graph.conv_norm(named("conv1", conv), named("bn1", norm), map(x), Some(map(shortcut)), Activation::Relu)
        });
        let bits =
            |t: Tensor<4>| t.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(y), bits(expected));
        graph.into_layers().remove(0)
    }

    #[test]
    fn the_operation_that_turned_is_named() {
        let turn = |conv: &Conv2d, norm: &Norm, x, shortcut| trace(conv, norm, x, shortcut).turn;
        assert_eq!(turn(&conv(0.1), &norm(), 1.0, 1.0), None);
        // Values that come in are no turn of the layer.
        assert_eq!(turn(&conv(0.1), &norm(), f32::NAN, 1.0), None);
        assert_eq!(turn(&conv(0.1), &norm(), 1.0, f32::INFINITY), None);
        // A weight that is not finite.
        let found = turn(&conv(f32::NAN), &norm(), 1.0, 0.0).unwrap();
        assert_eq!((found.layer.as_str(), found.operation), ("layer1.0.conv1", Operation::Convolution));
        assert_eq!((found.tensors[0].name.as_str(), found.tensors[0].stats.nan), ("layer1.0.conv1.weight", 36));
        // An overflow of the convolution.
        let found = turn(&conv(1e20), &norm(), 1e20, 0.0).unwrap();
        assert_eq!((found.layer.as_str(), found.tensors[0].stats.non_finite()), ("layer1.0.conv1", 0));
        // A norm whose variance is not finite.
        let mut broken = norm();
        broken.running_var = Some(burn::module::RunningState::new(Tensor::full([2], f32::NAN, &Device::flex())));
        let found = turn(&conv(0.1), &broken, 1.0, 0.0).unwrap();
        assert_eq!((found.layer.as_str(), found.operation), ("layer1.0.bn1", Operation::Norm));
        assert_eq!(found.tensors.iter().map(|t| t.stats.nan).collect::<Vec<_>>(), [0, 0, 0, 2]);
        // A sum of two finite maps.
        let mut scaled = norm();
        scaled.weight = Param::from_tensor(Tensor::full([2], 3e38, &Device::flex())).set_require_grad(false);
        let found = turn(&conv(1.0 / 18.0), &scaled, 1.0, 3e38).unwrap();
        assert_eq!(found.operation, Operation::ResidualSum);
    }

    #[test]
    fn factors_that_are_not_finite_are_named() {
        let device = Device::flex();
        let turn = |factor: f32, x: f32| {
            let factors = Param::from_tensor(Tensor::<1>::from_floats([1.0, factor], &device));
            let mut graph = Traced::new();
            let maps = [Tensor::ones([1, 2, 4, 4], &device), Tensor::full([1, 2, 2, 2], x, &device)];
            let levels = graph.levels(&maps, false);
            graph.scope(format_args!("regression_head"), |graph| {
                graph.scale_levels(named("level_scales", &factors), levels)
            });
            let [layer] = graph.into_layers().try_into().unwrap();
            assert_eq!((layer.name.as_str(), layer.operation), ("regression_head.level_scales", Operation::LevelScale));
            layer.turn
        };
        assert_eq!((turn(2.0, 1.0), turn(2.0, f32::NAN)), (None, None));
        let found = turn(f32::INFINITY, 1.0).unwrap();
        assert_eq!((found.layer.as_str(), found.tensors[0].stats.infinite), ("regression_head.level_scales", 1));
    }

    #[test]
    fn pyramid_levels_share_a_record() {
        let device = Device::flex();
        let maps = [Tensor::ones([1, 2, 4, 4], &device), Tensor::full([1, 2, 2, 2], f32::NAN, &device)];
        let mut graph = Traced::new();
        let levels = graph.levels(&maps, false);
        graph.conv_levels(named("0", &conv(0.1)), None, levels, Activation::Relu);
        let [layer] = graph.into_layers().try_into().unwrap();
        assert_eq!((layer.output.count, layer.output.nan, layer.turn), (2 * 20, 2 * 4, None));
    }
}
