//! What the class loss has to do with: anchors, positives and classes of a set, after resizing. No picture is read.

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
    /// Pictures with at least one.
    pub pictures: usize,
    /// Positive anchors on the pictures whose anchors were matched.
    pub positives: usize,
}

/// Counts of a set.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    pub pictures: usize,
    pub empty_pictures: usize,
    pub objects: usize,
    /// Pictures whose anchors were matched.
    pub matched_pictures: usize,
    /// Anchors of those: with an object, without, left out of the loss.
    pub positives: usize,
    pub background: usize,
    pub ignored: usize,
    /// By class.
    pub classes: Vec<ClassCount>,
    /// The class of each object, picture by picture.
    #[serde(skip)]
    pub by_picture: Vec<Vec<u32>>,
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

/// One picture as the network sees it.
struct Picture {
    objects: Vec<BBox>,
    classes: Vec<u32>,
    crowds: Vec<BBox>,
}

/// Counts a set; anchors are matched on at most `limit` pictures, evenly chosen.
///
/// # Errors
/// Categories that contradict each other, pictures without a size, a set without objects.
pub fn count(config: &RunConfig, coco: &CocoDataset, limit: usize) -> Result<Counts> {
    let labels = LabelMap::from_categories(&coco.categories)?;
    let mut classes: Vec<ClassCount> = labels
        .categories()
        .iter()
        .map(|c| ClassCount { name: c.name.clone(), objects: 0, pictures: 0, positives: 0 })
        .collect();
    let preprocess = config.data.preprocess();
    let mut pictures: BTreeMap<i64, Picture> = BTreeMap::new();
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
        pictures.insert(image.id, Picture { objects: Vec::new(), classes: Vec::new(), crowds: Vec::new() });
    }
    for annotation in &coco.annotations {
        let (Some(picture), Some(class)) =
            (pictures.get_mut(&annotation.image_id), labels.class_of(annotation.category_id))
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
                picture.crowds.push(scaled);
            }
            continue;
        }
        classes[class as usize].objects += 1;
        classes[class as usize].pictures += usize::from(!picture.classes.contains(&class));
        picture.objects.push(scaled);
        picture.classes.push(class);
    }
    let empty_pictures = pictures.values().filter(|picture| picture.objects.is_empty()).count();
    if config.data.filter_empty {
        pictures.retain(|_, picture| !picture.objects.is_empty());
    }
    let mut counts = Counts {
        pictures: pictures.len(),
        empty_pictures,
        objects: classes.iter().map(|class| class.objects).sum(),
        matched_pictures: pictures.len().min(limit),
        positives: 0,
        background: 0,
        ignored: 0,
        classes,
        by_picture: pictures.values().map(|picture| picture.classes.clone()).collect(),
    };
    if counts.objects == 0 {
        bail!("the set has no object that can be trained on");
    }
    let every: Vec<(&i64, &Picture)> = pictures.iter().collect();
    let chosen = (0..counts.matched_pictures).map(|i| every[i * every.len() / counts.matched_pictures]);
    // Pictures of one padded size share their anchors.
    let mut by_size: BTreeMap<[usize; 2], Vec<&Picture>> = BTreeMap::new();
    for (id, picture) in chosen {
        let [_, _, width, height] = sizes[id];
        by_size.entry([height, width].map(|side| padded_length(side as usize))).or_default().push(picture);
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
