//! ONNX nodes that normalise and pad the input images.

use foveal_image::{Preprocess, SIZE_DIVISOR};

use super::builder::{Builder, Value};
use super::schema::DataType;

/// The network's input, and the sizes that the computation of anchors and boxes needs.
pub(super) struct Input {
    /// Normalised images, padded with zeros at the bottom and on the right: `[batch, 3, padded height, padded width]`.
    pub images: Value,
    /// Padded height and width in pixels, `[2]`.
    pub padded: Value,
    /// Upper limits of a box's x1, y1, x2, y2 in pixels, `[4]`: width, height, width, height of the unpadded input.
    pub limits: Value,
}

/// Normalises images `[batch, 3, height, width]` with values in 0..1, then pads them to multiples of [`SIZE_DIVISOR`].
pub(super) fn input(builder: &mut Builder, preprocess: &Preprocess, images: &Value) -> Input {
    let mean = builder.floats(&[3, 1, 1], &preprocess.mean);
    let std = builder.floats(&[3, 1, 1], &preprocess.std);
    let centred = builder.node("Sub", &[images, &mean], vec![]);
    let normal = builder.node("Div", &[&centred, &std], vec![]);

    let shape = builder.node("Shape", &[images], vec![]);
    let axes = builder.ints(&[2, 3]);
    let size = builder.gather(&shape, &axes, 0);
    let divisor = builder.ints(&[SIZE_DIVISOR as i64]);
    let up = builder.ints(&[SIZE_DIVISOR as i64 - 1]);
    let padded = builder.node("Add", &[&size, &up], vec![]);
    let padded = builder.node("Div", &[&padded, &divisor], vec![]);
    let padded = builder.node("Mul", &[&padded, &divisor], vec![]);
    let missing = builder.node("Sub", &[&padded, &size], vec![]);
    // Pad takes the numbers of zeros before each of the four axes, then the numbers after each of them.
    let before = builder.ints(&[0; 6]);
    let pads = builder.concat(&[&before, &missing], 0);
    let zero = builder.float(0.0);
    let images = builder.node("Pad", &[&normal, &pads, &zero], vec![]);

    let corners = builder.ints(&[3, 2, 3, 2]);
    let limits = builder.gather(&shape, &corners, 0);
    let limits = builder.cast(&limits, DataType::Float);
    Input { images, padded, limits }
}
