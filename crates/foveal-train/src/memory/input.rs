//! The size of the largest batch that a data set can give.

use foveal_data::{DataConfig, Record};
use foveal_image::padded_length;

/// The padded height and width in pixels of the largest batch of `batch` of these images. A batch is padded to its
/// largest height and its largest width, which can come from two images. If `augmented`, images have the largest sizes
/// that the augmentation can give them.
pub(crate) fn largest_input(records: &[Record], data: &DataConfig, augmented: bool, batch: usize) -> [usize; 2] {
    let preprocess = data.preprocess();
    let sizes = records.iter().flat_map(|record| {
        if augmented {
            return data.largest_training_sizes(record.width, record.height);
        }
        let (width, height) = preprocess.target_size(record.width, record.height);
        vec![[height, width]]
    });
    let sizes = sizes.map(|size| size.map(|side| padded_length(side as usize)));
    if batch == 1 {
        return sizes.max_by_key(|[height, width]| height * width).unwrap_or_default();
    }
    sizes.fold([0, 0], |[height, width], [h, w]| [height.max(h), width.max(w)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::{LargeScaleJitter, Transform};

    fn record(width: u32, height: u32) -> Record {
        let file_name = format!("{width}x{height}.png");
        Record { image_id: 1, file_name, width, height, objects: Vec::new(), crowds: Vec::new() }
    }

    #[test]
    fn a_batch_is_padded_to_its_largest_height_and_width() {
        let mut data = DataConfig { min_size: 800, max_size: 1333, ..DataConfig::default() };
        let (wide, high) = (record(640, 480), record(375, 500));
        let size = |records: &[Record], batch| largest_input(records, &data, true, batch);
        // 640x480 becomes 1066x800, 375x500 becomes 800x1066; sides are padded to multiples of 32.
        assert_eq!(size(std::slice::from_ref(&wide), 4), [800, 1088]);
        assert_eq!(size(&[wide.clone(), high.clone()], 4), [1088, 1088]);
        assert_eq!(size(&[wide.clone(), high.clone()], 1), [1088, 800]);
        data.augment.min_sizes = vec![320, 640];
        assert_eq!(largest_input(std::slice::from_ref(&wide), &data, true, 4), [640, 864]);
        assert_eq!(largest_input(std::slice::from_ref(&wide), &data, false, 4), [800, 1088]);
        // A canvas of fixed size is the only size in training, and that of evaluations stays.
        let jitter = LargeScaleJitter { size: [1000, 500], ..LargeScaleJitter::default() };
        data.augment.transforms = vec![Transform::LargeScaleJitter(jitter)];
        assert_eq!(largest_input(&[wide.clone(), high], &data, true, 4), [1024, 512]);
        assert_eq!(largest_input(&[wide], &data, false, 4), [800, 1088]);
    }
}
