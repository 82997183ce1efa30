//! What the class loss has to do with: anchors, positives and classes of a set, after resizing. No image is read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_anchors::{BACKGROUND, IGNORE, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_coco::{CocoDataset, LabelMap, xywh_to_bbox};
use foveal_data::{Source, shapes};
use foveal_image::padded_length;
use foveal_train::RunConfig;
use rayon::prelude::*;
use serde::Serialize;

use crate::args::Split;

/// A class of the set.
#[derive(Clone, Debug, Serialize)]
pub struct ClassCount {
    pub name: String,
    /// Objects, crowd regions left out.
    pub objects: usize,
    /// Images with at least one.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Positive anchors on the images whose anchors were matched.
    pub positives: usize,
}

/// Counts of a set.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    #[serde(rename = "pictures")]
    pub images: usize,
    #[serde(rename = "empty_pictures")]
    pub empty_images: usize,
    pub objects: usize,
    /// Images whose anchors were matched.
    #[serde(rename = "matched_pictures")]
    pub matched_images: usize,
    /// Anchors of those: with an object, without, left out of the loss.
    pub positives: usize,
    pub background: usize,
    pub ignored: usize,
    /// By class.
    pub classes: Vec<ClassCount>,
    /// The class of each object, image by image.
    #[serde(skip)]
    pub by_image: Vec<Vec<u32>>,
}

impl Counts {
    /// Negative pairs of anchor and class for each positive anchor.
    pub fn negatives_per_positive(&self) -> f64 {
        let anchors = (self.positives + self.background) as f64;
        (anchors * self.classes.len() as f64 - self.positives as f64) / self.positives.max(1) as f64
    }
}

/// The annotations that a configuration, or a file in its place, names.
///
/// # Errors
/// A configuration that names none, a file that is none.
pub fn annotations(config: &RunConfig, file: Option<&Path>, split: Split) -> Result<CocoDataset> {
    if let Some(file) = file {
        return Ok(CocoDataset::read(file)?);
    }
    let (set, generated, key) = match split {
        Split::Train => (&config.data.train, shapes::Split::Train, "data.train.annotations"),
        Split::Val => (&config.data.val, shapes::Split::Val, "data.val.annotations"),
    };
    match (config.data.source, &set.annotations) {
        (Source::Shapes, _) => Ok(shapes::open(&config.data.shapes, generated).dataset.coco().clone()),
        (Source::Coco, Some(path)) => Ok(CocoDataset::read(path)?),
        (Source::Coco, None) => bail!("the configuration has no {key}; name a file by --annotations"),
    }
}

/// One image as the network sees it.
struct ImageBoxes {
    objects: Vec<BBox>,
    classes: Vec<u32>,
    crowds: Vec<BBox>,
}

/// Counts a set; anchors are matched on at most `limit` images, evenly chosen.
///
/// # Errors
/// Categories that contradict each other, images without a size, a set without objects.
pub fn count(config: &RunConfig, coco: &CocoDataset, limit: usize) -> Result<Counts> {
    let labels = LabelMap::from_categories(&coco.categories)?;
    let mut classes: Vec<ClassCount> = labels
        .categories()
        .iter()
        .map(|c| ClassCount { name: c.name.clone(), objects: 0, images: 0, positives: 0 })
        .collect();
    let preprocess = config.data.preprocess();
    let mut by_id: BTreeMap<i64, ImageBoxes> = BTreeMap::new();
    let mut sizes: HashMap<i64, [u32; 4]> = HashMap::new();
    for image in &coco.images {
        if image.width == 0 || image.height == 0 {
            bail!(
                "image {} has no width or height in the annotations, so its size after resizing is unknown",
                image.id
            );
        }
        let (width, height) = preprocess.target_size(image.width, image.height);
        sizes.insert(image.id, [image.width, image.height, width, height]);
        by_id.insert(image.id, ImageBoxes { objects: Vec::new(), classes: Vec::new(), crowds: Vec::new() });
    }
    for annotation in &coco.annotations {
        let (Some(entry), Some(class)) = (by_id.get_mut(&annotation.image_id), labels.class_of(annotation.category_id))
        else {
            continue;
        };
        let [width, height, new_width, new_height] = sizes[&annotation.image_id].map(|side| side as f32);
        let bbox = xywh_to_bbox(&annotation.bbox).clip(width, height);
        // Not a number fails both.
        if !(bbox.width() >= config.data.min_box && bbox.height() >= config.data.min_box) {
            continue;
        }
        let scaled = bbox.scale(new_width / width, new_height / height);
        if annotation.iscrowd {
            if !config.data.drop_crowds {
                entry.crowds.push(scaled);
            }
            continue;
        }
        classes[class as usize].objects += 1;
        classes[class as usize].images += usize::from(!entry.classes.contains(&class));
        entry.objects.push(scaled);
        entry.classes.push(class);
    }
    let empty_images = by_id.values().filter(|entry| entry.objects.is_empty()).count();
    if config.data.filter_empty {
        by_id.retain(|_, entry| !entry.objects.is_empty());
    }
    let mut counts = Counts {
        images: by_id.len(),
        empty_images,
        objects: classes.iter().map(|class| class.objects).sum(),
        matched_images: by_id.len().min(limit),
        positives: 0,
        background: 0,
        ignored: 0,
        classes,
        by_image: by_id.values().map(|entry| entry.classes.clone()).collect(),
    };
    if counts.objects == 0 {
        bail!("the set has no object that can be trained on");
    }
    let every: Vec<(&i64, &ImageBoxes)> = by_id.iter().collect();
    let chosen = (0..counts.matched_images).map(|i| every[i * every.len() / counts.matched_images]);
    // Images of one padded size share their anchors.
    let mut by_size: BTreeMap<[usize; 2], Vec<&ImageBoxes>> = BTreeMap::new();
    for (id, entry) in chosen {
        let [_, _, width, height] = sizes[id];
        by_size.entry([height, width].map(|side| padded_length(side as usize))).or_default().push(entry);
    }
    for ([height, width], members) in by_size {
        let anchors = config.model.anchors.anchors(height, width, &grid_sizes(height, width)).boxes;
        let tallies: Vec<BTreeMap<i32, usize>> = members
            .par_iter()
            .map(|p| {
                let targets = image_targets(&anchors, &p.objects, &p.classes, &p.crowds, &config.matcher);
                let mut tally = BTreeMap::new();
                targets.classes.into_iter().for_each(|class| *tally.entry(class).or_insert(0) += 1);
                tally
            })
            .collect();
        for (class, anchors) in tallies.into_iter().flatten() {
            match class {
                BACKGROUND => counts.background += anchors,
                IGNORE => counts.ignored += anchors,
                class => {
                    counts.positives += anchors;
                    counts.classes[usize::try_from(class).context("a class is not negative")?].positives += anchors;
                }
            }
        }
    }
    Ok(counts)
}
