//! ONNX nodes for convolutions, norms and the operations between them.

use burn::tensor::Tensor;
use foveal_nn::{Conv2d, ConvOptions, Norm, NormKind};

use super::builder::{Builder, Value, int_attribute, ints_attribute, text_attribute};

/// A convolution, with the norm after it, whose weights are in the graph once and can be applied to several inputs.
pub(super) struct ConvLayer {
    weight: Value,
    bias: Option<Value>,
    kernel: i64,
    stride: i64,
    padding: i64,
    groups: i64,
    group_norm: Option<GroupNorm>,
}

/// A group norm whose weights are in the graph.
struct GroupNorm {
    /// Number of channels per group.
    in_group: usize,
    /// Number of groups.
    groups: usize,
    /// Value that is added to the variance.
    eps: f64,
    /// Scale of each channel, `[channels, 1, 1]`.
    weight: Value,
    /// Shift of each channel, `[channels, 1, 1]`.
    bias: Value,
}

/// Reads a tensor as row-major `f32` values.
fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("floats are readable as f32")
}

impl ConvLayer {
    /// Adds the weights of a convolution and of the norm after it to the graph. `name` is the parameter path of the
    /// convolution and begins the names of its weights. Norms with stored statistics are folded into the convolution's
    /// weights.
    pub(super) fn new(builder: &mut Builder, name: &str, conv: &Conv2d, norm: Option<&Norm>) -> Self {
        let bias = conv.bias.as_ref().map(|b| host(b.val()));
        let folded = Folded { weight: host(conv.weight.val()), bias };
        let (folded, group_norm) = match norm {
            None => (folded, None),
            Some(norm) => match norm.kind {
                NormKind::Group { groups } => {
                    (folded, Some(GroupNorm::new(builder, &format!("{name}.norm"), norm, groups)))
                }
                NormKind::Frozen | NormKind::FrozenStatistics | NormKind::Batch => (folded.with(norm), None),
            },
        };
        Self { group_norm, ..Self::of(builder, name, conv, folded) }
    }

    /// Adds weights for a convolution with the kernel size, stride, padding and groups of `conv`.
    fn of(builder: &mut Builder, name: &str, conv: &Conv2d, values: Folded) -> Self {
        let [_, inputs, height, width] = conv.weight.dims();
        let outputs = values.weight.len() / (inputs * height * width);
        let weight = builder.weight(&format!("{name}.weight"), &[outputs, inputs, height, width], &values.weight);
        let bias = values.bias.map(|b| builder.weight(&format!("{name}.bias"), &[outputs], &b));
        let ConvOptions { stride, padding, groups } = conv.options;
        let [kernel, stride, padding, groups] = [height, stride, padding, groups].map(|n| n as i64);
        Self { weight, bias, kernel, stride, padding, groups, group_norm: None }
    }

    /// Applies the convolution and its norm to `x`.
    pub(super) fn apply(&self, builder: &mut Builder, x: &Value) -> Value {
        let inputs: Vec<&Value> = [x, &self.weight].into_iter().chain(&self.bias).collect();
        let attributes = vec![
            ints_attribute("kernel_shape", &[self.kernel; 2]),
            ints_attribute("strides", &[self.stride; 2]),
            ints_attribute("pads", &[self.padding; 4]),
            int_attribute("group", self.groups),
        ];
        let y = builder.node("Conv", &inputs, attributes);
        match &self.group_norm {
            Some(norm) => norm.apply(builder, &y),
            None => y,
        }
    }
}

/// Weights of a convolution on the host, with or without a norm folded into them.
struct Folded {
    /// `[outputs, inputs / groups, height, width]`, row-major.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Folded {
    /// Folds the norm after the convolution, which has stored statistics, into weight and bias (computed in `f64`).
    fn with(self, norm: &Norm) -> Self {
        let stat = |s: &Option<burn::module::RunningState<Tensor<1>>>| {
            host(s.as_ref().expect("a batch norm keeps statistics").value_sync())
        };
        let (gamma, beta) = (host(norm.weight.val()), host(norm.bias.val()));
        let (mean, var) = (stat(&norm.running_mean), stat(&norm.running_var));
        let scale: Vec<f64> =
            gamma.iter().zip(&var).map(|(g, v)| f64::from(*g) / (f64::from(*v) + norm.eps).sqrt()).collect();
        let channel = self.weight.len() / scale.len();
        let scaled = |values: &[f32], s: &f64| values.iter().map(|v| (f64::from(*v) * s) as f32).collect::<Vec<f32>>();
        let weight = self.weight.chunks_exact(channel).zip(&scale).flat_map(|(w, s)| scaled(w, s)).collect();
        let bias = (0..scale.len())
            .map(|i| {
                let before = self.bias.as_ref().map_or(0.0, |b| f64::from(b[i]));
                (f64::from(beta[i]) + (before - f64::from(mean[i])) * scale[i]) as f32
            })
            .collect();
        Self { weight, bias: Some(bias) }
    }
}

impl GroupNorm {
    fn new(builder: &mut Builder, name: &str, norm: &Norm, groups: usize) -> Self {
        let mut put =
            |part: &str, values: Vec<f32>| builder.weight(&format!("{name}.{part}"), &[values.len(), 1, 1], &values);
        let (weight, bias) = (put("weight", host(norm.weight.val())), put("bias", host(norm.bias.val())));
        Self { groups, in_group: norm.weight.dims()[0] / groups, eps: norm.eps, weight, bias }
    }

    /// Applies the group norm. ONNX has a group norm operator only since opset 18, and few runtimes support it. It is
    /// composed of means instead of an instance norm over each group, because runtimes may sum the thousands of values
    /// of a group one after the other in single precision.
    fn apply(&self, builder: &mut Builder, x: &Value) -> Value {
        let mean = self.group_mean(builder, x);
        let centred = builder.node("Sub", &[x, &mean], vec![]);
        let square = builder.node("Mul", &[&centred, &centred], vec![]);
        let variance = self.group_mean(builder, &square);
        let eps = builder.floats(&[1], &[self.eps as f32]);
        let variance = builder.node("Add", &[&variance, &eps], vec![]);
        let deviation = builder.node("Sqrt", &[&variance], vec![]);
        let normal = builder.node("Div", &[&centred, &deviation], vec![]);
        let scaled = builder.node("Mul", &[&normal, &self.weight], vec![]);
        builder.node("Add", &[&scaled, &self.bias], vec![])
    }

    /// The mean over each channel's group, `[batch, channels, 1, 1]`. For precision it is taken first over each row,
    /// then over the rows of a channel, then over the channels of the group.
    fn group_mean(&self, builder: &mut Builder, x: &Value) -> Value {
        let mean = |builder: &mut Builder, x: &Value, axis: i64| {
            let attributes = vec![ints_attribute("axes", &[axis]), int_attribute("keepdims", 1)];
            builder.node("ReduceMean", &[x], attributes)
        };
        let rows = mean(builder, x, 3);
        let maps = mean(builder, &rows, 2);
        let grouped = builder.reshape(&maps, &[0, self.groups as i64, -1]);
        let groups = mean(builder, &grouped, 2);
        let ones = builder.floats(&[self.in_group], &vec![1.0; self.in_group]);
        let each = builder.node("Mul", &[&groups, &ones], vec![]);
        builder.reshape(&each, &[0, -1, 1, 1])
    }
}

/// Adds the multiplication of each level's map by its factor. The factors are stored under `name` with the index of the
/// level.
pub(super) fn scale_levels(builder: &mut Builder, name: &str, maps: &[Value], factors: Tensor<1>) -> Vec<Value> {
    let factors = host(factors);
    assert!(
        maps.len() <= factors.len(),
        "expected a factor for each of {} levels, found {}",
        maps.len(),
        factors.len()
    );
    let each = maps.iter().zip(factors).enumerate().map(|(level, (map, factor))| {
        let factor = builder.weight(&format!("{name}.{level}"), &[1], &[factor]);
        builder.node("Mul", &[map, &factor], vec![])
    });
    each.collect()
}

/// Adds a ReLU: `max(x, 0)`.
pub(super) fn relu(builder: &mut Builder, x: &Value) -> Value {
    builder.node("Relu", &[x], vec![])
}

/// Adds the stem's max pooling: window 3x3, stride 2, padding 1.
pub(super) fn max_pool_3x3_s2_p1(builder: &mut Builder, x: &Value) -> Value {
    let attributes = vec![
        ints_attribute("kernel_shape", &[3, 3]),
        ints_attribute("strides", &[2, 2]),
        ints_attribute("pads", &[1; 4]),
    ];
    builder.node("MaxPool", &[x], attributes)
}

/// Adds `lateral + top`, with `top` upsampled to the size of `lateral` by torch's nearest-neighbour rule: output `i`
/// reads input `floor(i * in / out)`.
pub(super) fn upsample_add(builder: &mut Builder, lateral: &Value, top: &Value) -> Value {
    let sizes = builder.node("Shape", &[lateral], vec![]);
    let none = Value(String::new());
    let attributes = vec![
        text_attribute("mode", "nearest"),
        text_attribute("coordinate_transformation_mode", "asymmetric"),
        text_attribute("nearest_mode", "floor"),
    ];
    let enlarged = builder.node("Resize", &[top, &none, &none, &sizes], attributes);
    builder.node("Add", &[lateral, &enlarged], vec![])
}

/// Brings a level's map into anchor order (row, column, anchor of the location), with `values` numbers per anchor.
///
/// # Shapes
/// - map: `[batch, anchors_per_location * values, height, width]`
/// - result: `[batch, height * width * anchors_per_location, values]`
pub(super) fn flatten_level(builder: &mut Builder, map: &Value, values: usize) -> Value {
    let rows = builder.node("Transpose", &[map], vec![ints_attribute("perm", &[0, 2, 3, 1])]);
    builder.reshape(&rows, &[0, -1, values as i64])
}

/// Adds the selection of the `count` largest entries along the last axis: their values in descending order and their
/// indices. Equal values are in the order of their indices.
pub(super) fn top(builder: &mut Builder, x: &Value, count: &Value) -> [Value; 2] {
    let attributes = vec![int_attribute("axis", -1), int_attribute("largest", 1), int_attribute("sorted", 1)];
    builder.node2("TopK", &[x, count], attributes)
}
