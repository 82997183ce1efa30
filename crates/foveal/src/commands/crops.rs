//! Crops of the images at annotations that are probably wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use foveal_boxes::BBox;
use foveal_coco::{LabelMap, xywh_to_bbox};
use foveal_data::Dataset;
use foveal_eval::{LabelError, LabelErrorKind};
use image::imageops;

use crate::console::note;
use crate::draw::{Mark, draw};
use crate::output;

/// Largest number of crops of each kind of error.
const CROPS: usize = 100;
/// Width of the surroundings on each side, as a fraction of the longer side of the box.
const MARGIN: f32 = 0.6;
/// Smallest width of the surroundings in pixels.
const SMALLEST_MARGIN: f32 = 24.0;
/// JPEG quality of the crops.
const JPEG_QUALITY: u8 = 92;

/// All files that crops may be written to.
pub(super) fn files(folder: Option<&Path>) -> Vec<PathBuf> {
    let kinds = [LabelErrorKind::NoObject, LabelErrorKind::NeverFound, LabelErrorKind::OtherClass];
    let of_folder = |folder: &Path| -> Vec<PathBuf> {
        kinds.iter().flat_map(|kind| (1..=CROPS).map(|number| folder.join(file_name(*kind, number)))).collect()
    };
    folder.map_or_else(Vec::new, of_folder)
}

fn file_name(kind: LabelErrorKind, number: usize) -> String {
    format!("{}-{number:03}.jpg", kind_name(kind))
}

/// Writes crops of the first likely label errors of each kind into a folder. Returns the file name of the crop of each
/// error; `None` for errors without one. An image that cannot be read is left out with a warning.
///
/// # Errors
/// If the folder or a file cannot be written.
pub(super) fn write(errors: &[LabelError], dataset: &Dataset, folder: &Path) -> Result<Vec<Option<String>>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let images: HashMap<i64, usize> = dataset.records().iter().map(|record| record.image_id).zip(0..).collect();
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    let mut one = |error: &LabelError| -> Result<Option<String>> {
        let count = counts.entry(kind_name(error.kind)).or_insert(0);
        let Some(&index) = images.get(&error.image_id).filter(|_| *count < CROPS) else { return Ok(None) };
        let image = match dataset.load(index) {
            Ok(image) => image,
            Err(error) => {
                note!("warning: no crop: {error}");
                return Ok(None);
            }
        };
        *count += 1;
        let name = file_name(error.kind, *count);
        save(&folder.join(&name), &image, error, dataset.label_map())?;
        Ok(Some(name))
    };
    errors.iter().map(&mut one).collect()
}

fn kind_name(kind: LabelErrorKind) -> &'static str {
    match kind {
        LabelErrorKind::NoObject => "no_object",
        LabelErrorKind::NeverFound => "never_found",
        LabelErrorKind::OtherClass => "other_class",
    }
}

fn save(path: &Path, image: &image::RgbImage, error: &LabelError, labels: &LabelMap) -> Result<()> {
    let bbox = xywh_to_bbox(&error.bbox);
    let margin = (MARGIN * bbox.width().max(bbox.height())).max(SMALLEST_MARGIN);
    let (width, height) = (image.width() as f32, image.height() as f32);
    let around = BBox::new(bbox.x1 - margin, bbox.y1 - margin, bbox.x2 + margin, bbox.y2 + margin).clip(width, height);
    // A box outside the image is shown with the whole image.
    let around = if around.is_degenerate() { BBox::new(0.0, 0.0, width, height) } else { around };
    let (left, top) = (around.x1.floor(), around.y1.floor());
    let (right, bottom) = (around.x2.ceil(), around.y2.ceil());
    let crop = imageops::crop_imm(image, left as u32, top as u32, (right - left) as u32, (bottom - top) as u32);
    let name = |id: Option<i64>| id.and_then(|id| labels.class_of(id)).map(|class| &labels.category(class).name);
    let mut text = String::new();
    if let Some(labelled) = name(error.category_id) {
        text += &format!("labelled {labelled} ");
    }
    if let (Some(detected), Some(score)) = (name(error.detected_category_id), error.score) {
        text += &format!("detected {detected} {score:.2}");
    }
    let class = error.category_id.or(error.detected_category_id).and_then(|id| labels.class_of(id)).unwrap_or(0);
    let at = BBox::new(bbox.x1 - left, bbox.y1 - top, bbox.x2 - left, bbox.y2 - top);
    let drawn = draw(&crop.to_image(), &[Mark { bbox: at, class, text: text.trim_end().to_owned() }]);
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    drawn.write_with_encoder(encoder).with_context(|| format!("cannot encode {}", path.display()))?;
    output::write_file(path, &bytes)
}
