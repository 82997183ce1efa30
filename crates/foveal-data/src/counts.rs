//! What the class loss has to do with on a set: anchors, positives and classes as training makes them. No image is read.

use std::collections::BTreeMap;

use foveal_anchors::{AnchorConfig, BACKGROUND, IGNORE, MatcherConfig, grid_sizes};
use rayon::prelude::*;
use serde::Serialize;

use crate::augment::{Placed, by_padded_size};
use crate::{DataConfig, Opened};

/// A class of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCounts {
    /// The category's name.
    pub name: String,
    /// Objects, crowd regions left out.
    pub objects: usize,
    /// Images with at least one object of the class.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Positive anchors on the images whose anchors were matched.
    pub positives: usize,
}

/// Counts of a set. Objects are those of the annotations, which class weights and the sampler go by; anchors are those of
/// the targets, where an object that resizing brings below `data.min_box` is ignored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetCounts {
    /// Images of the set.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Images without objects, also where `data.filter_empty` leaves them out of the set.
    #[serde(rename = "empty_pictures")]
    pub empty_images: usize,
    /// Objects of the set.
    pub objects: usize,
    /// Images whose anchors were matched.
    #[serde(rename = "matched_pictures")]
    pub matched_images: usize,
    /// Anchors of the matched images that have an object.
    pub positives: usize,
    /// Anchors of the matched images that show none.
    pub background: usize,
    /// Anchors of the matched images that take no part in the loss.
    pub ignored: usize,
    /// The classes, in class order.
    pub classes: Vec<ClassCounts>,
    /// The class of each object, image by image.
    #[serde(skip)]
    pub by_image: Vec<Vec<u32>>,
}

impl TargetCounts {
    /// Counts a set without augmentation. Anchors are matched on at most `limit` images, evenly chosen, each padded by
    /// itself.
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
            classes: classes.map(|(name, &objects)| ClassCounts { name, objects, images: 0, positives: 0 }).collect(),
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
            let anchors = anchors.anchors(height, width, &grid_sizes(height, width)).boxes;
            let tally = |placed: &Placed| {
                let mut tally: BTreeMap<i32, usize> = BTreeMap::new();
                placed.targets(&anchors, matcher).classes.into_iter().for_each(|c| *tally.entry(c).or_default() += 1);
                tally
            };
            let tallies: Vec<BTreeMap<i32, usize>> = members.par_iter().map(|member| tally(&member.placed)).collect();
            tallies.into_iter().flatten().for_each(|(class, anchors)| counts.add(class, anchors));
        }
        counts
    }

    /// Files anchors under what they are trained as.
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

    /// Negative pairs of anchor and class for each positive anchor.
    pub fn negatives_per_positive(&self) -> f64 {
        let anchors = (self.positives + self.background) as f64;
        (anchors * self.classes.len() as f64 - self.positives as f64) / self.positives.max(1) as f64
    }
}
