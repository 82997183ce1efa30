//! Numbers of objects and anchors of a data set by class, with the same targets as in training. No image is read.

use std::collections::BTreeMap;

use foveal_anchors::{AnchorConfig, BACKGROUND, IGNORE, MatchedImage, MatcherConfig, grid_sizes};
use rayon::prelude::*;
use serde::Serialize;

use crate::augment::{PlacedObjects, by_padded_size};
use crate::{DataConfig, Opened};

/// The counts of one class of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCounts {
    /// Name of the category that the class stands for.
    pub name: String,
    /// Number of objects of the class, without crowd regions.
    pub objects: usize,
    /// Number of images with at least one object of the class.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Number of positive anchors of the class on the images whose anchors were matched.
    pub positives: usize,
    /// Number of objects of the class that got no anchor, on the images whose anchors were matched.
    pub objects_without_anchor: usize,
}

/// Numbers of images, objects and anchors of a data set.
///
/// Objects are counted as in the annotations, which class weights and the sampler use too. Anchors are counted as in
/// the targets of training, where an object that resizing makes smaller than `data.min_box` is ignored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetCounts {
    /// Number of images of the data set.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Number of images without objects. They are counted even if `data.filter_empty` leaves them out of the data set.
    #[serde(rename = "empty_pictures")]
    pub empty_images: usize,
    /// Number of objects of the data set, without crowd regions.
    pub objects: usize,
    /// Number of images whose anchors were matched with their objects.
    #[serde(rename = "matched_pictures")]
    pub matched_images: usize,
    /// Number of positive anchors of the images whose anchors were matched.
    pub positives: usize,
    /// Number of background anchors of the images whose anchors were matched.
    pub background: usize,
    /// Number of ignored anchors of the images whose anchors were matched. They take no part in the loss.
    pub ignored: usize,
    /// Number of objects that got no anchor, on the images whose anchors were matched, so that none is trained to
    /// detect them. Objects that training ignores are not counted.
    pub objects_without_anchor: usize,
    /// The counts of each class, in class order.
    pub classes: Vec<ClassCounts>,
    /// The classes of the objects of each image, in the order of the images.
    #[serde(skip)]
    pub by_image: Vec<Vec<u32>>,
}

impl ClassCounts {
    fn new(name: String, objects: usize) -> Self {
        Self { name, objects, images: 0, positives: 0, objects_without_anchor: 0 }
    }
}

/// The counts of the targets of an image.
struct Tally {
    /// Numbers of anchors by class, `BACKGROUND` or `IGNORE`.
    anchors: BTreeMap<i32, usize>,
    /// The class of each object that got no anchor.
    without_anchor: Vec<u32>,
}

impl Tally {
    fn new(placed: &PlacedObjects, matched: MatchedImage) -> Self {
        let mut anchors: BTreeMap<i32, usize> = BTreeMap::new();
        matched.targets.classes.into_iter().for_each(|class| *anchors.entry(class).or_default() += 1);
        let without_anchor = matched.without_anchor.into_iter().map(|object| placed.classes[object as usize]);
        Self { anchors, without_anchor: without_anchor.collect() }
    }
}

impl TargetCounts {
    /// Counts a data set without augmentation. Anchors are matched on at most `limit` evenly spaced images. Each image
    /// is resized and padded on its own, not in a batch.
    pub fn new(
        opened: &Opened,
        config: &DataConfig,
        anchors: &AnchorConfig,
        matcher: &MatcherConfig,
        limit: usize,
    ) -> Self {
        let Opened { dataset, report } = opened;
        let objects = dataset.objects_by_class();
        let names = dataset.label_map().categories().iter().map(|c| c.name.clone());
        let classes = names.zip(&objects);
        let matched = dataset.len().min(limit);
        let mut counts = Self {
            images: dataset.len(),
            empty_images: report.empty_images,
            objects: objects.iter().sum(),
            matched_images: matched,
            positives: 0,
            background: 0,
            ignored: 0,
            objects_without_anchor: 0,
            classes: classes.map(|(name, &objects)| ClassCounts::new(name, objects)).collect(),
            by_image: dataset.records().iter().map(|r| r.objects.iter().map(|o| o.class).collect()).collect(),
        };
        for of_image in &counts.by_image {
            let mut present = of_image.clone();
            present.sort_unstable();
            present.dedup();
            present.iter().for_each(|class| counts.classes[*class as usize].images += 1);
        }
        let chosen = (0..matched).map(|i| dataset.record(i * dataset.len() / matched));
        for ([height, width], members) in by_padded_size(chosen, config) {
            let anchors = anchors.anchors(height, width, &grid_sizes(height, width));
            let tally = |placed: &PlacedObjects| Tally::new(placed, placed.targets(&anchors, matcher));
            let tallies: Vec<Tally> = members.par_iter().map(|member| tally(&member.placed)).collect();
            for Tally { anchors, without_anchor } in tallies {
                anchors.into_iter().for_each(|(class, anchors)| counts.add(class, anchors));
                counts.objects_without_anchor += without_anchor.len();
                for class in without_anchor {
                    counts.classes[class as usize].objects_without_anchor += 1;
                }
            }
        }
        counts
    }

    /// Adds a number of anchors that are trained as `class`, `BACKGROUND` or `IGNORE`.
    fn add(&mut self, class: i32, anchors: usize) {
        match class {
            BACKGROUND => self.background += anchors,
            IGNORE => self.ignored += anchors,
            class => {
                self.positives += anchors;
                self.classes[class as usize].positives += anchors;
            }
        }
    }

    /// Returns the number of negative pairs of anchor and class for each positive anchor, over the images whose anchors
    /// were matched. Without positive anchors it is the number of negative pairs.
    pub fn negatives_per_positive(&self) -> f64 {
        let anchors = (self.positives + self.background) as f64;
        (anchors * self.classes.len() as f64 - self.positives as f64) / self.positives.max(1) as f64
    }
}
