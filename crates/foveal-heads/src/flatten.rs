//! From a head's map to rows in anchor order.

use burn::tensor::Tensor;

/// Brings one level's map into anchor order (y, x, cell), `values` numbers an anchor.
///
/// # Shapes
/// - map: `[batch, cells * values, height, width]`, channels ordered (cell, value)
/// - result: `[batch, height * width * cells, values]`
pub fn flatten_level(map: Tensor<4>, values: usize) -> Tensor<3> {
    let [batch, channels, height, width] = map.dims();
    assert!(channels.is_multiple_of(values), "{channels} channels are no multiple of {values}");
    // (cell, value) stays together, so one permutation of four axes does it.
    map.permute([0, 2, 3, 1]).reshape([batch, height * width * (channels / values), values])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    /// The order that foveal-anchors defines: anchor index = ((y * width) + x) * cells + cell.
    #[test]
    fn rows_are_in_anchor_order() {
        let (cells, values, height, width) = (2usize, 3usize, 2usize, 4usize);
        let n = cells * values * height * width;
        let map =
            Tensor::<1, Int>::arange(0..n as i64, &Device::flex()).float().reshape([1, cells * values, height, width]);
        let rows: Vec<f32> = flatten_level(map, values).into_data().try_to_vec().unwrap();
        for y in 0..height {
            for x in 0..width {
                for cell in 0..cells {
                    for value in 0..values {
                        let row = (y * width + x) * cells + cell;
                        let expected = ((cell * values + value) * height + y) * width + x;
                        assert_eq!(rows[row * values + value], expected as f32);
                    }
                }
            }
        }
    }
}
