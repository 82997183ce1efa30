//! The objects of a data set that anchors are fitted to.

use foveal_anchors::FitObject;

use crate::augment::by_padded_size;
use crate::{DataConfig, Dataset, Record, Stream};

/// The objects of images that are resized and padded as without augmentation. No image is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FitObjects {
    /// The objects that are trained.
    pub(super) objects: Vec<FitObject>,
    /// Number of objects that resizing makes smaller than `data.min_box`, so that training ignores them.
    pub(super) too_small: usize,
    /// Number of pixels of all padded images.
    pub(super) pixels: u64,
}

impl FitObjects {
    /// Collects the objects of some images. Each image is resized and padded on its own, as for
    /// [`SetCoverage`](crate::SetCoverage).
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>, config: &DataConfig) -> Self {
        let mut found = Self::default();
        let mut annotated = 0;
        let counted = records.into_iter().inspect(|record| annotated += record.objects.len());
        for (padded, images) in by_padded_size(counted, config) {
            found.pixels += images.len() as u64 * (padded[0] * padded[1]) as u64;
            let boxes = images.into_iter().flat_map(|image| image.placed.boxes);
            found.objects.extend(boxes.map(|bbox| FitObject { bbox, padded }));
        }
        found.too_small = annotated - found.objects.len();
        found
    }
}

/// The indices in ascending order of images drawn at random by `seed`, of which the last reaches `objects` objects; all
/// images if the data set has no more objects than that.
pub(super) fn sample_images(dataset: &Dataset, objects: usize, seed: u64) -> Vec<usize> {
    let mut images: Vec<usize> = (0..dataset.len()).collect();
    let of = |image: usize| dataset.record(image).objects.len();
    if images.iter().map(|image| of(*image)).sum::<usize>() <= objects {
        return images;
    }
    Stream::new(&[seed, SAMPLE]).shuffle(&mut images);
    let mut drawn = 0;
    let taken = images.iter().take_while(|image| {
        let more = drawn < objects;
        drawn += of(**image);
        more
    });
    let count = taken.count();
    images.truncate(count);
    images.sort_unstable();
    images
}

/// The key of the random numbers of the sample.
const SAMPLE: u64 = 0x0061_6E63_686F_7273;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn shapes(count: usize) -> (Dataset, DataConfig) {
        let mut config = DataConfig { source: Source::Shapes, min_size: 192, max_size: 192, ..DataConfig::default() };
        config.shapes.count = count;
        (config.open_train().unwrap().dataset, config)
    }

    #[test]
    fn every_object_is_trained_or_too_small() {
        let (dataset, config) = shapes(10);
        let all: usize = dataset.objects_by_class().iter().sum();
        let found = FitObjects::of(dataset.records(), &config);
        assert_eq!((found.objects.len(), found.too_small, found.pixels), (all, 0, 10 * 192 * 192));
        assert!(found.objects.iter().all(|object| object.padded == [192, 192]));
        // Half the size, padded to 96 pixels, and only objects of at least 12 pixels.
        let config = DataConfig { min_size: 90, max_size: 90, min_box: 12.0, ..config };
        let half = FitObjects::of(dataset.records(), &config);
        assert_eq!(half.objects.len() + half.too_small, all);
        assert!(half.too_small > 0 && half.objects.iter().all(|object| object.bbox.width() >= 12.0));
        assert_eq!(half.pixels, 10 * 96 * 96);
    }

    #[test]
    fn samples_have_enough_objects_and_depend_on_the_seed() {
        let (dataset, _) = shapes(60);
        let drawn = |objects, seed| sample_images(&dataset, objects, seed);
        let objects = |images: &[usize]| images.iter().map(|i| dataset.record(*i).objects.len()).sum::<usize>();
        let sample = drawn(50, 1);
        assert!((50..50 + 12).contains(&objects(&sample)) && sample.is_sorted(), "{sample:?}");
        assert_eq!(sample, drawn(50, 1));
        assert_ne!(sample, drawn(50, 2));
        assert_eq!(drawn(1_000_000, 1), (0..60).collect::<Vec<_>>());
    }
}
