//! How well anchors cover the objects of a set, by the sizes that the network sees. No image is read.

use foveal_anchors::{AnchorConfig, Coverage, CoverageSummary, SizeBucket, coverage, grid_sizes};
use rayon::prelude::*;

use crate::augment::{Resized, by_padded_size};
use crate::{DataConfig, Dataset};

/// Coverage of a set's objects, in groups.
#[derive(Clone, Debug, PartialEq)]
pub struct SetCoverage {
    /// All objects.
    pub all: CoverageSummary,
    /// Objects of each size, in the order of [`SizeBucket::ALL`].
    pub by_size: [CoverageSummary; 3],
    /// Objects of each class, in class order.
    pub by_class: Vec<CoverageSummary>,
}

impl SetCoverage {
    /// Measures the objects that training learns without augmentation: those that resizing brings below `data.min_box`
    /// are ignored there, and left out here.
    pub fn new(dataset: &Dataset, config: &DataConfig, anchors: &AnchorConfig) -> Self {
        let mut measured: Vec<(Resized, Coverage)> = Vec::with_capacity(dataset.len());
        for ([height, width], members) in by_padded_size(dataset.records(), config) {
            let anchors = anchors.anchors(height, width, &grid_sizes(height, width)).boxes;
            measured.par_extend(members.into_par_iter().map(|image| {
                let found = coverage(&anchors, &image.placed.boxes);
                (image, found)
            }));
        }
        measured.sort_unstable_by_key(|(image, _)| image.index);
        let mut all = Coverage::default();
        let mut classes = vec![Coverage::default(); dataset.label_map().len()];
        for (image, found) in measured {
            for (object, class) in found.objects.iter().zip(&image.placed.classes) {
                classes[*class as usize].objects.push(*object);
            }
            all.merge(found);
        }
        Self {
            all: all.summary(),
            by_size: SizeBucket::ALL.map(|bucket| all.bucket(bucket)),
            by_class: classes.iter().map(Coverage::summary).collect(),
        }
    }
}
