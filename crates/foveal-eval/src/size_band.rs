//! Ranges of object sizes.

use serde::Serialize;

/// Largest area of an object in square pixels in COCO's metrics: 1e5 squared.
const LARGEST_AREA: f64 = 1e10;
/// COCO's limits between small, medium and large objects: the side in pixels of a square of the object's area.
const COCO_SIDES: [f64; 2] = [32.0, 96.0];

/// A range of object sizes. An object belongs to it if its area is in `min_area..=max_area`, as in COCO's metrics, in
/// which an object exactly between two bands belongs to both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeBand {
    /// Name of the band, such as `small` or `16-64`.
    pub label: String,
    /// Smallest area in square pixels.
    pub min_area: f64,
    /// Largest area in square pixels.
    pub max_area: f64,
}

impl SizeBand {
    /// COCO's bands: `small` below 32 x 32 pixels, `medium` up to 96 x 96 pixels, and `large`.
    pub fn coco() -> Vec<Self> {
        let mut bands = Self::between(&COCO_SIDES);
        for (band, name) in bands.iter_mut().zip(["small", "medium", "large"]) {
            name.clone_into(&mut band.label);
        }
        bands
    }

    /// The bands between the given sizes, from 0 to the first one and from the last one on included. A size is the side
    /// in pixels of a square of the object's area. The sizes must be positive and ascending.
    pub fn between(sides: &[f64]) -> Vec<Self> {
        let area = |side: &f64| (side * side).min(LARGEST_AREA);
        let count = sides.len();
        (0..=count)
            .map(|i| {
                let (low, high) = (i.checked_sub(1).map(|low| &sides[low]), sides.get(i));
                let label = match (low, high) {
                    (Some(low), Some(high)) => format!("{low}-{high}"),
                    (None, Some(high)) => format!("0-{high}"),
                    (Some(low), None) => format!("{low}+"),
                    (None, None) => "all".to_owned(),
                };
                Self { label, min_area: low.map_or(0.0, area), max_area: high.map_or(LARGEST_AREA, area) }
            })
            .collect()
    }
}
