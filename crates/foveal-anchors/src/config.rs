//! The configuration of the anchors, and the boxes of the anchors over an image.

use crate::{AnchorGrid, GridSize, LEVELS, STRIDES};
use foveal_base::{SettingError, check};
use foveal_boxes::BBox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rounding of anchor sizes and strides (`model.anchors.rounding`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// No rounding: sizes are `base * 2^(k/scales)` and strides are `2^level` pixels. This is for new models.
    #[default]
    Exact,
    /// The rounding of torchvision, for use with its weights: sizes are truncated to integers, half extents are rounded
    /// half to even, and the stride of each axis is the integer quotient of the padded image size and the size of the
    /// feature map (for P7 of an image 320 pixels wide: 106 instead of 128).
    Torchvision,
}

/// The sizes, scales and aspect ratios of the anchors on each pyramid level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorConfig {
    /// Side in pixels of the smallest square anchor on each of the five levels P3 to P7, at most 1000000 (default 32,
    /// 64, 128, 256, 512).
    pub base_sizes: Vec<f32>,
    /// Number of anchor sizes per octave: on each level the base size is multiplied by `2^(k/scales)` for `k` from 0 to
    /// `scales - 1` (1 to 32, default 3).
    pub scales: usize,
    /// Aspect ratios of the anchors, height divided by width: 1 to 32 ratios from 0.001 to 1000 (default 0.5, 1, 2).
    pub ratios: Vec<f32>,
    /// Rounding of anchor sizes and strides (default `exact`).
    pub rounding: Rounding,
}

/// Smallest side in pixels of a base size.
const MIN_BASE_SIZE: f32 = 0.1;
/// Largest side in pixels of a base size. Areas of larger boxes lose their precision in `f32`.
const MAX_BASE_SIZE: f32 = 1e6;
/// Largest number of scales and of aspect ratios.
const MAX_SHAPES: u64 = 32;
/// Largest aspect ratio; its reciprocal is the smallest.
const MAX_RATIO: f32 = 1000.0;

impl Default for AnchorConfig {
    /// The anchors of Lin et al., arXiv 1708.02002, section 4: base sizes from 32 to 512 pixels, three scales per
    /// octave and three aspect ratios.
    fn default() -> Self {
        Self {
            base_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            scales: 3,
            ratios: vec![0.5, 1.0, 2.0],
            rounding: Rounding::Exact,
        }
    }
}

/// The boxes of all anchors of a padded image.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchors {
    /// Boxes in pixels of the padded image, in the order level, row, column, anchor of the location. They may extend
    /// beyond the image.
    pub boxes: Vec<BBox>,
    /// Index in `boxes` of the first anchor of each level, followed by the number of all anchors: `[levels + 1]`.
    pub level_offsets: Vec<usize>,
    /// Number of anchors at each location of a feature map.
    pub anchors_per_location: usize,
    /// The grid of the anchors' centres on each level: `[levels]`.
    pub grids: Vec<AnchorGrid>,
}

impl AnchorConfig {
    /// Number of anchors at each location of a feature map: scales times aspect ratios.
    pub fn anchors_per_location(&self) -> usize {
        self.scales * self.ratios.len()
    }

    /// Checks the sizes, scales and aspect ratios.
    ///
    /// # Errors
    /// [`SettingError`] if there are not [`LEVELS`] base sizes, the number of scales or of aspect ratios is not from 1
    /// to 32, or a size or ratio is outside its range.
    pub fn validate(&self) -> Result<(), SettingError> {
        let positive = |values: &[f32]| values.iter().all(|v| *v > 0.0 && v.is_finite());
        check::that(
            self.base_sizes.len() == LEVELS && positive(&self.base_sizes),
            "base_sizes",
            "five positive sizes in pixels, one for each of P3..P7",
            &self.base_sizes,
        )?;
        let sizes = self.base_sizes.iter().all(|size| (MIN_BASE_SIZE..=MAX_BASE_SIZE).contains(size));
        let expected = format!("sizes from {MIN_BASE_SIZE} to {MAX_BASE_SIZE} pixels");
        check::that(sizes, "base_sizes", &expected, &self.base_sizes)?;
        check::that(self.scales > 0, "scales", "at least 1 scale per octave", &self.scales)?;
        check::count("scales", self.scales, 1..=MAX_SHAPES)?;
        check::that(
            !self.ratios.is_empty() && positive(&self.ratios),
            "ratios",
            "one or more positive ratios of height to width",
            &self.ratios,
        )?;
        let ratios = self.ratios.iter().all(|ratio| (1.0 / MAX_RATIO..=MAX_RATIO).contains(ratio));
        let expected = format!("at most {MAX_SHAPES} ratios, each from {} to {MAX_RATIO}", 1.0 / MAX_RATIO);
        check::that(self.ratios.len() as u64 <= MAX_SHAPES && ratios, "ratios", &expected, &self.ratios)
    }

    /// The anchors of one location of a level, centred on the origin, in pixels. The aspect ratios are the outer loop
    /// and the scales the inner loop. The result has the shape `[anchors_per_location]`.
    ///
    /// # Panics
    /// If there is no base size for `level` (0 is P3).
    pub fn base_anchors(&self, level: usize) -> Vec<BBox> {
        let base = f64::from(self.base_sizes[level]);
        let sizes: Vec<f64> = (0..self.scales).map(|k| base * 2f64.powf(k as f64 / self.scales as f64)).collect();
        let around_origin = |x: f32, y: f32| BBox::new(-x, -y, x, y);
        let anchor = |ratio: f32, size: f64| match self.rounding {
            Rounding::Exact => {
                let root = f64::from(ratio).sqrt();
                around_origin((size / root / 2.0) as f32, (size * root / 2.0) as f32)
            }
            // From here on in f32 and in the order of operations of torchvision's `AnchorGenerator.generate_anchors`.
            Rounding::Torchvision => {
                let size = size.trunc() as f32;
                let height_ratio = ratio.sqrt();
                let half = |v: f32| (v / 2.0).round_ties_even();
                around_origin(half((1.0 / height_ratio) * size), half(height_ratio * size))
            }
        };
        self.ratios.iter().flat_map(|&ratio| sizes.iter().map(move |&size| anchor(ratio, size))).collect()
    }

    /// The grids of the anchors' centres over a padded image of the given height and width in pixels. The result has
    /// the shape of `grids`, the sizes of the feature maps: `[levels]`.
    ///
    /// # Panics
    /// If there are more than [`LEVELS`] grids.
    pub(crate) fn center_grids(
        &self,
        padded_height: usize,
        padded_width: usize,
        grids: &[GridSize],
    ) -> Vec<AnchorGrid> {
        let center_grid = |(level, grid): (usize, &GridSize)| {
            let (stride_y, stride_x) = match self.rounding {
                Rounding::Exact => (STRIDES[level], STRIDES[level]),
                Rounding::Torchvision => (padded_height / grid.height, padded_width / grid.width),
            };
            AnchorGrid { size: *grid, stride_y, stride_x }
        };
        grids.iter().enumerate().map(center_grid).collect()
    }

    /// Computes the boxes of all anchors over a padded image of the given height and width in pixels.
    ///
    /// The anchors of the location in column `x` and row `y` are centred on the pixel `(x * stride, y * stride)`: the
    /// top left corner of the location, not its middle, as in torchvision and Detectron2.
    ///
    /// # Shapes
    /// - grids: the sizes of the feature maps, P3 first, as [`grid_sizes`](crate::grid_sizes) returns them: `[levels]`
    ///
    /// # Panics
    /// If there is not one grid for each base size, or there are more than [`LEVELS`].
    pub fn anchors(&self, padded_height: usize, padded_width: usize, grids: &[GridSize]) -> Anchors {
        assert_eq!(grids.len(), self.base_sizes.len(), "expected one grid for each base size");
        let total: usize = grids.iter().map(GridSize::positions).sum();
        let mut boxes = Vec::with_capacity(total * self.anchors_per_location());
        let mut level_offsets = vec![0];
        let center_grids = self.center_grids(padded_height, padded_width, grids);
        for (level, grid) in grids.iter().enumerate() {
            let base = self.base_anchors(level);
            let center_grid = center_grids[level];
            for y in 0..grid.height {
                for x in 0..grid.width {
                    let [dx, dy] = center_grid.center(y, x);
                    boxes.extend(base.iter().map(|c| BBox::new(c.x1 + dx, c.y1 + dy, c.x2 + dx, c.y2 + dy)));
                }
            }
            level_offsets.push(boxes.len());
        }
        Anchors { boxes, level_offsets, anchors_per_location: self.anchors_per_location(), grids: center_grids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid_sizes;

    #[test]
    fn exact_anchors() {
        let base = AnchorConfig::default().base_anchors(0);
        assert_eq!(base.len(), 9);
        for (i, anchor) in base.iter().enumerate() {
            let (ratio, scale) = ([0.5f32, 1.0, 2.0][i / 3], i % 3);
            let side = 32.0 * 2f32.powf(scale as f32 / 3.0);
            assert!((anchor.height() / anchor.width() - ratio).abs() < 1e-5);
            assert!((anchor.area().sqrt() - side).abs() < 1e-4);
        }
    }

    #[test]
    fn torchvision_rounds_half_to_even() {
        let config = AnchorConfig { rounding: Rounding::Torchvision, ..AnchorConfig::default() };
        // 128 * 2^(1/3) = 161.27 is cut to 161; half of it, 80.5, goes to 80.
        assert_eq!(config.base_anchors(2)[4], BBox::new(-80.0, -80.0, 80.0, 80.0));
        // 320 px wide: P7 has 3 columns, 320 / 3 = 106 px apart.
        let anchors = config.anchors(320, 320, &grid_sizes(320, 320));
        let p7 = anchors.level_offsets[4];
        assert_eq!(anchors.boxes[p7 + 9].center().0, 106.0);
    }

    #[test]
    fn order_and_offsets() {
        let config = AnchorConfig::default();
        let grids = grid_sizes(96, 64);
        let anchors = config.anchors(96, 64, &grids);
        assert_eq!(anchors.level_offsets.len(), 6);
        for (level, grid) in grids.iter().enumerate() {
            let first = anchors.level_offsets[level];
            assert_eq!(anchors.level_offsets[level + 1] - first, grid.positions() * 9);
            let (y, x, index) = (grid.height - 1, grid.width - 1, 4);
            let anchor = anchors.boxes[first + (y * grid.width + x) * 9 + index];
            let stride = STRIDES[level] as f32;
            assert_eq!(anchor.center(), (x as f32 * stride, y as f32 * stride));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let check = |change: fn(&mut AnchorConfig)| {
            let mut config = AnchorConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            check(|c| c.base_sizes.truncate(3)),
            "base_sizes: expected five positive sizes in pixels, one for each of P3..P7, found [32.0, 64.0, 128.0]"
        );
        assert_eq!(
            check(|c| c.ratios[1] = -1.0),
            "ratios: expected one or more positive ratios of height to width, found [0.5, -1.0, 2.0]"
        );
        assert!(check(|c| c.ratios.clear()).ends_with("found []"));
        assert_eq!(check(|c| c.scales = 0), "scales: expected at least 1 scale per octave, found 0");
        assert_eq!(
            check(|c| c.scales = usize::MAX),
            "scales: expected at least 1 and at most 32, found 18446744073709551615"
        );
        assert!(check(|c| c.base_sizes[0] = 1e38).contains("0.1 to 1000000 pixels"));
        assert!(check(|c| c.ratios[0] = 1e-40).contains("0.001 to 1000"));
        assert!(AnchorConfig::default().validate().is_ok());
    }

    #[test]
    fn config_names() {
        let config: AnchorConfig = serde_json::from_str(r#"{"rounding":"torchvision","scales":2}"#).unwrap();
        assert_eq!((config.rounding, config.anchors_per_location()), (Rounding::Torchvision, 6));
        assert!(serde_json::from_str::<AnchorConfig>(r#"{"ratio":[1]}"#).is_err());
    }
}
