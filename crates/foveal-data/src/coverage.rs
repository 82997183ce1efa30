//! Coverage of the objects of a data set by anchors, after resizing. No image is read.

use foveal_anchors::{AnchorConfig, Coverage, CoverageSummary, MatcherConfig, SizeBucket, coverage, grid_sizes};
use rayon::prelude::*;

use crate::augment::{UnaugmentedImage, by_padded_size};
use crate::{DataConfig, Dataset};

/// Coverage of the objects of a data set by anchors: their highest IoUs, and their numbers of anchors that overlap them
/// well and of anchors that the matcher assigns to them, by group.
#[derive(Clone, Debug, PartialEq)]
pub struct SetCoverage {
    /// The coverage of all objects.
    pub all: CoverageSummary,
    /// The coverage of small, medium and large objects, in the order of [`SizeBucket::ALL`].
    pub by_size: [CoverageSummary; 3],
    /// The coverage of the objects of each class, in class order.
    pub by_class: Vec<CoverageSummary>,
}

impl SetCoverage {
    /// Computes the coverage of the objects that are trained without augmentation. Objects that resizing makes smaller
    /// than `data.min_box` are left out, because training ignores them. Each image is resized and padded on its own.
    pub fn new(dataset: &Dataset, config: &DataConfig, anchors: &AnchorConfig, matcher: &MatcherConfig) -> Self {
        let mut measured: Vec<(UnaugmentedImage, Coverage)> = Vec::with_capacity(dataset.len());
        for ([height, width], members) in by_padded_size(dataset.records(), config) {
            let anchors = anchors.anchors(height, width, &grid_sizes(height, width));
            measured.par_extend(members.into_par_iter().map(|image| {
                let found = coverage(&anchors, &image.placed.boxes, matcher);
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
