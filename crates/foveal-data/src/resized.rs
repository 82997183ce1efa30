//! Sizes of the objects of a data set as the network sees them, after the resizing of the images.

use foveal_boxes::BBox;
use foveal_image::Preprocess;
use serde::Serialize;

use crate::percentile::percentiles;
use crate::stats::{PERCENTILES, size_group};
use crate::{Dataset, Object};

/// Sizes of the objects of a data set after resizing without augmentation. No image is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResizedStats {
    /// Square root of the area of the boxes in pixels of the resized images: minimum, 10th percentile, median, 90th
    /// percentile, maximum.
    pub sides: [f32; 5],
    /// The same percentiles of the shorter sides of the boxes in pixels of the resized images.
    pub short_sides: [f32; 5],
    /// Numbers of small objects (area below 32x32 pixels of the resized image), medium objects, and large objects (area
    /// of 96x96 pixels or more), with COCO's bounds.
    pub small_medium_large: [usize; 3],
    /// For each class in class order, the square root of the area of its boxes in pixels of the resized images:
    /// minimum, 10th percentile, median, 90th percentile, maximum. Zeros for a class without objects.
    pub class_sides: Vec<[f32; 5]>,
}

impl ResizedStats {
    /// Computes the sizes of the objects of a data set whose images are resized with `preprocess`.
    pub fn of(dataset: &Dataset, preprocess: &Preprocess) -> Self {
        let mut classes = vec![Vec::new(); dataset.label_map().len()];
        let (mut sides, mut short_sides) = (Vec::new(), Vec::new());
        let mut sizes = [0; 3];
        for record in dataset.records() {
            let (width, height) = preprocess.target_size(record.width, record.height);
            let (sx, sy) = (width as f32 / record.width as f32, height as f32 / record.height as f32);
            for Object { bbox, class, area } in &record.objects {
                let resized: BBox = bbox.scale(sx, sy);
                sizes[size_group(area * sx * sy)] += 1;
                sides.push(resized.area().sqrt());
                short_sides.push(resized.width().min(resized.height()));
                classes[*class as usize].push(resized.area().sqrt());
            }
        }
        Self {
            sides: percentiles(sides, PERCENTILES),
            short_sides: percentiles(short_sides, PERCENTILES),
            small_medium_large: sizes,
            class_sides: classes.into_iter().map(|sides| percentiles(sides, PERCENTILES)).collect(),
        }
    }

    /// Returns the fraction of the objects that are small after resizing (area below 32x32 pixels); 0 without objects.
    pub fn small_share(&self) -> f64 {
        self.small_medium_large[0] as f64 / self.small_medium_large.iter().sum::<usize>().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataConfig, Source, Stats};

    #[test]
    fn sides_are_scaled_with_the_images() {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.count = 20;
        let dataset = config.open_train().unwrap().dataset;
        let stats = Stats::of(&dataset);
        // The images have 192x192 pixels.
        let at =
            |min_size| ResizedStats::of(&dataset, &Preprocess { min_size, max_size: 4096, ..Preprocess::default() });
        let (same, double) = (at(192), at(384));
        assert_eq!((same.sides, same.small_medium_large), (stats.sides, stats.small_medium_large));
        for (class, sides) in stats.classes.iter().zip(&same.class_sides) {
            assert_eq!(class.sides, *sides);
        }
        for (single, double) in same.sides.iter().zip(double.sides) {
            assert!((2.0 * single - double).abs() < 1e-3, "{single} {double}");
        }
        assert!(same.short_sides[2] <= same.sides[2] && double.small_share() < same.small_share());
        assert_eq!(same.small_share(), stats.small_medium_large[0] as f64 / stats.objects as f64);
    }
}
