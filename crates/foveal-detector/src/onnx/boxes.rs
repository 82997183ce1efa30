//! ONNX nodes that compute the anchors from the input size and decode box deltas.

use foveal_anchors::{AnchorConfig, Rounding, STRIDES};
use foveal_boxes::MAX_LOG_RATIO;

use super::builder::{Builder, Value};
use super::input::Input;
use super::schema::DataType;

/// The anchors of one level in the order row, column, anchor of the location, as `foveal_anchors` computes them.
///
/// # Shapes
/// - map: `[batch, channels, height, width]` of the level
/// - result: `[height * width * anchors_per_location, 4]`
fn anchors(builder: &mut Builder, config: &AnchorConfig, level: usize, map: &Value, padded: &Value) -> Value {
    let shape = builder.node("Shape", &[map], vec![]);
    let axes = builder.ints(&[2, 3]);
    let grid = builder.gather(&shape, &axes, 0);
    let strides = match config.rounding {
        Rounding::Exact => builder.ints(&[STRIDES[level] as i64; 2]),
        Rounding::Torchvision => builder.node("Div", &[padded, &grid], vec![]),
    };
    let y = ticks(builder, &grid, &strides, 0, [-1, 1, 1, 1]);
    let x = ticks(builder, &grid, &strides, 1, [1, -1, 1, 1]);
    let base: Vec<f32> = config.base_anchors(level).iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]).collect();
    // The left, top, right and bottom edges of the base anchors, each `[1, 1, anchors_per_location, 1]`.
    let edges: [Vec<f32>; 4] = std::array::from_fn(|edge| base.iter().skip(edge).step_by(4).copied().collect());
    let [left, top, right, bottom] = edges.map(|values| builder.floats(&[1, 1, values.len(), 1], &values));
    let one = |builder: &mut Builder, along: &Value, across: &Value, edge: &Value| {
        // Adding zeros broadcasts the edge over the other axis of the grid.
        let zero = builder.float(0.0);
        let flat = builder.node("Mul", &[across, &zero], vec![]);
        let moved = builder.node("Add", &[along, edge], vec![]);
        builder.node("Add", &[&moved, &flat], vec![])
    };
    let edges = [(&x, &y, &left), (&y, &x, &top), (&x, &y, &right), (&y, &x, &bottom)];
    let edges = edges.map(|(along, across, edge)| one(builder, along, across, edge));
    let boxes = builder.concat(&edges.each_ref(), -1);
    builder.reshape(&boxes, &[-1, 4])
}

/// The offsets `0, stride, 2 stride, …` in pixels along one axis of the grid.
fn ticks(builder: &mut Builder, grid: &Value, strides: &Value, axis: i64, shape: [i64; 4]) -> Value {
    let [zero, one, axis] = [0, 1, axis].map(|v| builder.int(v));
    let count = builder.gather(grid, &axis, 0);
    let stride = builder.gather(strides, &axis, 0);
    let places = builder.node("Range", &[&zero, &count, &one], vec![]);
    let pixels = builder.node("Mul", &[&places, &stride], vec![]);
    let pixels = builder.cast(&pixels, DataType::Float);
    builder.reshape(&pixels, &shape)
}

/// The boxes of one level: decoded as in `foveal_boxes::decode` and clipped to the unpadded input.
///
/// # Shapes
/// - map: `[batch, channels, height, width]`
/// - deltas and result: `[batch, height * width * anchors_per_location, 4]`
pub(super) fn level_boxes(
    builder: &mut Builder,
    config: &AnchorConfig,
    level: usize,
    map: &Value,
    deltas: &Value,
    input: &Input,
) -> Value {
    let anchors = anchors(builder, config, level, map, &input.padded);
    let [low, high] = halves(builder, &anchors);
    let half = builder.float(0.5);
    let size = builder.node("Sub", &[&high, &low], vec![]);
    let half_size = builder.node("Mul", &[&size, &half], vec![]);
    let centre = builder.node("Add", &[&low, &half_size], vec![]);

    let [shift, growth] = halves(builder, deltas);
    let shift = builder.node("Mul", &[&shift, &size], vec![]);
    let centre = builder.node("Add", &[&shift, &centre], vec![]);
    let bound = builder.float(MAX_LOG_RATIO);
    let growth = builder.node("Min", &[&growth, &bound], vec![]);
    let growth = builder.node("Exp", &[&growth], vec![]);
    let size = builder.node("Mul", &[&growth, &size], vec![]);
    let extent = builder.node("Mul", &[&size, &half], vec![]);
    let low = builder.node("Sub", &[&centre, &extent], vec![]);
    let high = builder.node("Add", &[&centre, &extent], vec![]);

    let boxes = builder.concat(&[&low, &high], -1);
    let zero = builder.float(0.0);
    let boxes = builder.node("Max", &[&boxes, &zero], vec![]);
    builder.node("Min", &[&boxes, &input.limits], vec![])
}

/// Splits the last axis, of length 4, into its first two and its last two numbers.
fn halves(builder: &mut Builder, value: &Value) -> [Value; 2] {
    [builder.last_axis(value, 0, 2), builder.last_axis(value, 2, 4)]
}
