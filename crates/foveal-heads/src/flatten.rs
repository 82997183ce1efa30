//! From a head's maps to rows in anchor order.

use burn::tensor::Tensor;
use foveal_kernels::channels_last;

/// Brings maps, one level after the other, into anchor order (level, y, x, cell), `values` numbers an anchor.
///
/// # Shapes
/// - maps: `[batch, cells * values, pixels]`, channels ordered (cell, value)
/// - result: `[batch, pixels * cells, values]`
pub fn flatten_maps(maps: Tensor<3>, values: usize) -> Tensor<3> {
    let [batch, channels, pixels] = maps.dims();
    assert!(channels.is_multiple_of(values), "{channels} channels are no multiple of {values}");
    // (cell, value) stays together, so channels and pixels change places and that is all.
    channels_last(maps).reshape([batch, pixels * (channels / values), values])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    /// The order that foveal-anchors defines: anchor index = ((y * width) + x) * cells + cell.
    #[test]
    fn rows_are_in_anchor_order() {
        let (anchors_per_location, values, height, width) = (2usize, 3usize, 2usize, 4usize);
        let n = anchors_per_location * values * height * width;
        let map = Tensor::<1, Int>::arange(0..n as i64, &Device::flex()).float().reshape([
            1,
            anchors_per_location * values,
            height,
            width,
        ]);
        let rows: Vec<f32> = flatten_maps(map.flatten(2, 3), values).into_data().try_to_vec().unwrap();
        for y in 0..height {
            for x in 0..width {
                for cell in 0..anchors_per_location {
                    for value in 0..values {
                        let row = (y * width + x) * anchors_per_location + cell;
                        let expected = ((cell * values + value) * height + y) * width + x;
                        assert_eq!(rows[row * values + value], expected as f32);
                    }
                }
            }
        }
    }
}
