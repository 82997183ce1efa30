//! The sizes that training images can have.

use foveal_image::Preprocess;

use super::Transform;
use crate::DataConfig;

/// Length of the longer side of the images whose resized size is computed for a ratio of width to height.
const LONG: f32 = 16_384.0;

impl DataConfig {
    /// Returns sizes `[height, width]` in pixels, without padding, among which are the largest that an image of `width`
    /// x `height` pixels can have in training: the largest height, the largest width and the largest area.
    ///
    /// The size of an image without transforms is that of the largest of `augment.min_sizes`. Transforms that turn or
    /// crop images change the ratio of the sides, and `large_scale_jitter` has a canvas of fixed size.
    pub fn largest_training_sizes(&self, width: u32, height: u32) -> Vec<[u32; 2]> {
        let mut preprocess = self.preprocess();
        if let Some(side) = self.augment.min_sizes.iter().max() {
            preprocess.min_size = *side;
        }
        let mut images = vec![[width, height]];
        let mut canvas = None;
        for transform in &self.augment.transforms {
            match transform {
                Transform::RandomCrop(crop) if crop.probability > 0.0 => {
                    images.extend(with_aspects(&preprocess, crop.aspect));
                }
                Transform::QuarterTurns(turns) if turns.probability > 0.0 => {
                    images.extend(images.clone().into_iter().map(|[width, height]| [height, width]));
                }
                Transform::LargeScaleJitter(jitter) if jitter.probability >= 1.0 => return vec![jitter.size],
                Transform::LargeScaleJitter(jitter) if jitter.probability > 0.0 => canvas = Some(jitter.size),
                _ => {}
            }
        }
        let resized = images.into_iter().map(|[width, height]| {
            let (width, height) = preprocess.target_size(width, height);
            [height, width]
        });
        resized.chain(canvas).collect()
    }
}

/// Widths and heights of images whose ratio is in a range, among which are those that become the widest, the highest
/// and the largest.
fn with_aspects(preprocess: &Preprocess, [low, high]: [f32; 2]) -> impl Iterator<Item = [u32; 2]> {
    let at_the_ends = [low, high].map(|aspect| {
        let [width, height] = if aspect > 1.0 { [LONG, LONG / aspect] } else { [LONG * aspect, LONG] };
        [width, height].map(|side| (side.round() as u32).max(1))
    });
    // The area grows with the longer side until that has its largest length.
    let (long, short) = (preprocess.max_size.max(preprocess.min_size), preprocess.min_size);
    let largest = [[long, short], [short, long]].into_iter().filter(move |[width, height]| {
        let aspect = *width as f32 / *height as f32;
        low <= aspect && aspect <= high
    });
    at_the_ends.into_iter().chain(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LargeScaleJitter, QuarterTurns, RandomCrop};

    /// The largest height, width and area of an image of 640x480 pixels.
    fn largest(config: &DataConfig) -> [u32; 3] {
        let sizes = config.largest_training_sizes(640, 480);
        let most = |value: fn(&[u32; 2]) -> u32| sizes.iter().map(value).max().unwrap();
        [most(|size| size[0]), most(|size| size[1]), most(|size| size[0] * size[1])]
    }

    #[test]
    fn transforms_that_turn_and_crop_change_the_largest_size() {
        let mut config = DataConfig::default();
        assert_eq!(largest(&config), [800, 1066, 800 * 1066]);
        config.augment.transforms = vec![Transform::QuarterTurns(QuarterTurns::default())];
        assert_eq!(largest(&config), [1066, 1066, 800 * 1066]);
        // A ratio of 2 gives 666x1333; the largest image has the ratio of max_size to min_size.
        config.augment.transforms = vec![Transform::RandomCrop(RandomCrop::default())];
        assert_eq!(largest(&config), [1333, 1333, 800 * 1333]);
        config.fixed_size = Some([400, 300]);
        assert_eq!(largest(&config), [400, 300, 400 * 300]);
    }

    #[test]
    fn a_canvas_of_fixed_size_replaces_the_other_sizes() {
        let mut jitter = LargeScaleJitter { size: [512, 1408], ..LargeScaleJitter::default() };
        let mut config = DataConfig::default();
        config.augment.transforms = vec![Transform::LargeScaleJitter(jitter)];
        assert_eq!(largest(&config), [512, 1408, 512 * 1408]);
        // Some images are resized as without the canvas.
        jitter.probability = 0.5;
        config.augment.transforms = vec![Transform::LargeScaleJitter(jitter)];
        assert_eq!(largest(&config), [800, 1408, 800 * 1066]);
    }
}
