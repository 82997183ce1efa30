//! Large images cut to tiles, with the objects that are on each.

mod cut;
mod grid;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use foveal_base::Stream;
use foveal_coco::{Annotation, Image, Whole, WholeDataset};
use foveal_image::ImageLimit;
use serde_json::json;

use crate::{ChangeReport, InputCounts, SetCounts, SetFile, SetsError};
use cut::Cut;
use grid::{Window, windows};
use source::Source;

pub use write::TileFormat;

/// Key that separates the random stream of the choice of empty tiles from those of other parts of the program.
const TILE: u64 = 31;
/// Members of an annotation that hold positions in the image, which tiles do not keep.
const POSITIONS: [&str; 3] = ["segmentation", "keypoints", "num_keypoints"];

/// What becomes of an object of which less is left on a tile than [`TileOptions::min_area`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutRule {
    /// What is left of it becomes a crowd region, which training and evaluation ignore.
    #[default]
    Crowd,
    /// It is left out, so that what is left of it is background.
    Drop,
}

/// How images are cut.
#[derive(Clone, Debug, PartialEq)]
pub struct TileOptions {
    /// Width and height of a tile in pixels. An image that is smaller along a side gives tiles of its own length there.
    pub size: u32,
    /// Share of a tile that the next one covers again, from 0 to below 1.
    pub overlap: f64,
    /// Smallest share of the area of an object that has to be on a tile, for the object to be one of the tile, from 0
    /// to 1. The part of a box outside the image does not count.
    pub min_area: f64,
    /// What becomes of objects of which less is left.
    pub cut: CutRule,
    /// Share of the tiles without objects that are kept, from 0 to 1, chosen at random.
    pub empty: f64,
    /// The format of the tiles.
    pub format: TileFormat,
    /// Quality of tiles in JPEG format, from 1 to 100.
    pub quality: u8,
    /// Limit on the memory that an image may need.
    pub limit: ImageLimit,
    /// Seed of the choice of the tiles without objects.
    pub seed: u64,
}

/// The tiles of a data set.
#[derive(Clone, Debug)]
pub struct Tiled {
    /// The tiles as images, with the objects on them. File names are relative to the folder of the tiles.
    pub dataset: WholeDataset,
    /// The counts and what was cut.
    pub report: ChangeReport,
}

/// Cuts the images of a data set to tiles, and writes these into the folder `out`, which is created if needed. `images`
/// is the folder of the images.
///
/// # Tiles
/// Tiles have the same size and start at the top left corner. The last one of a row or column is shifted inwards so
/// that it ends at the edge of the image. A tile is named after its image and its top left corner:
/// `street_x512_y0.jpg`; the folders in the names of the images remain. The pixels are those that training uses: the
/// EXIF orientation is applied, unless the size in the annotation file says that boxes refer to the pixels as stored.
///
/// # Objects
/// A box is cut at the edges of the tile. If the share of its area that is left is at least [`TileOptions::min_area`],
/// it is an object of the tile; if less is left, [`TileOptions::cut`] decides. Crowd regions stay crowd regions. `area`
/// is multiplied by the share. Segmentations and keypoints are left out; all other members are kept. The record of a
/// tile has the member `tile` with the id of the image and the corner.
///
/// # Errors
/// - [`SetsError::Image`] for an image that cannot be read
/// - [`SetsError::Size`] for an image of another size than in the annotation file
/// - [`SetsError::Name`] for a file name that leads out of the folder
/// - [`SetsError::Nothing`] if there would be no tile
/// - [`SetsError::Write`] or [`SetsError::Io`] for a tile that cannot be written
pub fn tile(set: SetFile, images: &Path, out: &Path, options: &TileOptions) -> Result<Tiled, SetsError> {
    let before = InputCounts::of(&set);
    let SetFile { path, dataset, mut warnings } = set;
    let sources = source::find(&dataset.images, images, options, &mut warnings)?;
    let mut plan = plan(&dataset, &sources, options);
    let notes = choose_empty(&mut plan, options);
    if plan.iter().all(|tiles| tiles.is_empty()) {
        let message = format!("expected at least one tile, found none of {} images", before.counts.images);
        return Err(SetsError::Nothing { path, message });
    }
    write::write(&sources, &plan, out, options)?;
    let (dataset, cuts) = assembled(dataset, &sources, plan);
    warnings.extend(cuts.warnings());
    let notes = notes.into_iter().chain(cuts.notes(options)).collect();
    let report = ChangeReport { inputs: vec![before], output: SetCounts::of(&dataset), notes, warnings };
    Ok(Tiled { dataset, report })
}

/// A tile that is to be written.
#[derive(Clone, Debug)]
struct Tile {
    window: Window,
    /// The annotations on the tile: the index of each in the data set, and what is left of it.
    objects: Vec<(usize, Cut)>,
}

impl Tile {
    fn is_empty(&self) -> bool {
        self.objects.iter().all(|(_, cut)| cut.iscrowd)
    }
}

/// The tiles of each image, with their objects.
fn plan(dataset: &WholeDataset, sources: &[Source], options: &TileOptions) -> Vec<Vec<Tile>> {
    let mut of_image: HashMap<i64, Vec<usize>> = HashMap::with_capacity(dataset.images.len());
    for (index, annotation) in dataset.annotations.iter().enumerate() {
        of_image.entry(annotation.record.image_id).or_default().push(index);
    }
    let of_source = |(image, source): (&Whole<Image>, &Source)| {
        let annotations = of_image.get(&image.record.id).map_or(&[][..], Vec::as_slice);
        let tile = |window: Window| {
            let cut = |index: &usize| {
                let record = &dataset.annotations[*index].record;
                cut::cut(record, source.size, &window, options).map(|cut| (*index, cut))
            };
            Tile { window, objects: annotations.iter().filter_map(cut).collect() }
        };
        windows(source.size, options.size, options.overlap).into_iter().map(tile).collect()
    };
    dataset.images.iter().zip(sources).map(of_source).collect()
}

/// Leaves out tiles without objects, so that the share of them that was asked for remains.
fn choose_empty(plan: &mut [Vec<Tile>], options: &TileOptions) -> Option<String> {
    let mut empty: Vec<(usize, usize)> = Vec::new();
    for (image, tiles) in plan.iter().enumerate() {
        empty.extend(tiles.iter().enumerate().filter(|(_, tile)| tile.is_empty()).map(|(at, _)| (image, at)));
    }
    let count = empty.len();
    let kept = (options.empty * count as f64).round() as usize;
    if kept >= count {
        return None;
    }
    Stream::new(&[options.seed, TILE]).shuffle(&mut empty);
    let left_out: HashSet<(usize, usize)> = empty.into_iter().skip(kept).collect();
    for (image, tiles) in plan.iter_mut().enumerate() {
        let mut at = 0;
        tiles.retain(|_| {
            at += 1;
            !left_out.contains(&(image, at - 1))
        });
    }
    Some(format!("tiles without objects: {count}, of which {kept} are kept"))
}

/// The data set of the tiles, and what was cut.
fn assembled(dataset: WholeDataset, sources: &[Source], plan: Vec<Vec<Tile>>) -> (WholeDataset, Cuts) {
    let WholeDataset { images, annotations, categories, others } = dataset;
    let mut tiled = WholeDataset { categories, others, ..WholeDataset::default() };
    let mut cuts = Cuts::default();
    let mut on_a_tile = vec![false; annotations.len()];
    for ((image, source), tiles) in images.iter().zip(sources).zip(plan) {
        for Tile { window, objects } in tiles {
            let Window { x, y, width, height } = window;
            let id = tiled.images.len() as i64 + 1;
            let mut others = image.others.clone();
            others.set("tile", json!({"image_id": image.record.id, "x": x, "y": y}));
            let record = Image { id, file_name: source.tile_name(&window), width, height };
            tiled.images.push(Whole { record, others });
            for (index, cut) in objects {
                let original = &annotations[index];
                on_a_tile[index] |= original.record.iscrowd || !cut.iscrowd;
                cuts.cut += usize::from(cut.share < 1.0 && !cut.iscrowd);
                cuts.ignored += usize::from(cut.iscrowd && !original.record.iscrowd);
                let record = Annotation {
                    id: tiled.annotations.len() as i64 + 1,
                    image_id: id,
                    category_id: original.record.category_id,
                    bbox: cut.bbox,
                    area: original.record.area * cut.share,
                    iscrowd: cut.iscrowd,
                };
                let mut others = original.others.clone();
                others.remove(&POSITIONS);
                tiled.annotations.push(Whole { record, others });
            }
        }
    }
    cuts.lost = on_a_tile.iter().filter(|is_there| !**is_there).count();
    cuts.outlines = annotations.iter().filter(|annotation| annotation.others.clone().remove(&POSITIONS)).count();
    (tiled, cuts)
}

/// What happened to the objects.
#[derive(Debug, Default)]
struct Cuts {
    /// Objects of tiles that were cut.
    cut: usize,
    /// Parts of objects that became crowd regions.
    ignored: usize,
    /// Objects and crowd regions that are on no tile as such.
    lost: usize,
    /// Objects that had a segmentation or keypoints.
    outlines: usize,
}

impl Cuts {
    fn notes(&self, options: &TileOptions) -> Vec<String> {
        let mut notes = Vec::new();
        if self.cut > 0 {
            notes.push(format!("objects of tiles that are cut at an edge: {}", self.cut));
        }
        if self.ignored > 0 {
            notes.push(format!(
                "parts of objects that are crowd regions, because less than {} of the object is on the tile: {}",
                options.min_area, self.ignored
            ));
        }
        notes
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.outlines > 0 {
            let text = "segmentations and keypoints are not kept; annotations that had some, and have boxes only";
            warnings.push(format!("{text}: {}", self.outlines));
        }
        if self.lost > 0 {
            warnings.push(format!(
                "annotations that are an object of no tile, because they have no box inside the image, too little of them is \
                 on each tile, or their tiles were left out: {}",
                self.lost
            ));
        }
        warnings
    }
}
