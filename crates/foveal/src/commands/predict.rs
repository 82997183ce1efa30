//! `foveal predict`: detects objects in images.

use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_base::printable;
use foveal_coco::{CocoDetection, bbox_to_xywh, write_results};
use foveal_data::OnError;
use foveal_detector::{Detector, Prediction};
use foveal_image::RgbImage;
use foveal_train::{DeviceLimits, InferenceCheck};
use serde::Serialize;

use super::detect::{Detected, Failed, Groups, Options, detect};
use crate::args::{Common, PredictArgs};
use crate::config::checkpoint::{self, OPEN_TO_INFERENCE, refuse_closed};
use crate::console::note;
use crate::draw::{Mark, draw};
use crate::failure::{DONE, Usage};
use crate::identity::{drawn_names, image_ids};
use crate::outputs::Files;
use crate::{device, inputs, output, precision};

/// Lowest score of detections that are drawn or listed, unless `--score-threshold` sets another or the checkpoint has
/// thresholds of single classes.
const SHOWN_SCORE: f32 = 0.5;
/// JPEG quality of drawn images, high enough for sharp text.
const JPEG_QUALITY: u8 = 92;

/// The entry of an image in the JSON output.
#[derive(Serialize)]
struct ImageResult {
    file: String,
    /// Width and height of the original image in pixels.
    width: u32,
    height: u32,
    detections: Vec<Found>,
}

/// The entry of a detection in the JSON output.
#[derive(Serialize)]
struct Found {
    /// Left, top, width and height of the box in pixels of the original image.
    bbox: [f32; 4],
    score: f32,
    category_id: i64,
    category: String,
}

/// Detects objects in images.
///
/// # Errors
/// If the checkpoint cannot be used, an input does not exist or a file cannot be written. If images cannot be read, or
/// the network's output for them is not finite, the others are processed first.
pub(super) fn run(args: &PredictArgs, common: &Common) -> Result<u8> {
    refuse_closed(&common.set, &OPEN_TO_INFERENCE)?;
    if let Some(score) = args.score_threshold
        && !(0.0..=1.0).contains(&score)
    {
        return Err(Usage(format!("--score-threshold {score}: expected a number from 0 to 1")).into());
    }
    let files = inputs::expand(&args.inputs)?;
    let drawn = drawn_names(&files);
    let mut named = Files::new().read("checkpoint", [&args.checkpoint]).read("annotation file", &args.annotations);
    named = named.read("image", &files).write("--json", &args.json).write("--coco", &args.coco);
    if let Some(folder) = &args.draw {
        named = named.write_into("--draw", folder, drawn.values(), ("image", &files));
    }
    named.check()?;
    let ids = args.coco.as_ref().map(|_| image_ids(&files, args.annotations.as_deref())).transpose()?;
    let picked = device::pick(&common.device)?;
    let precision = precision::supported(args.precision, &picked.device)?;
    let (checkpoint, config) = checkpoint::open(&args.checkpoint, &common.set, args.score_threshold, &picked.device)?;
    let detector = Detector::new(checkpoint, &picked.device).with_precision(precision)?;
    if let Some(folder) = &args.draw {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let own_thresholds = !detector.checkpoint.meta.class_thresholds.is_empty();
    let shown = args.score_threshold.unwrap_or(if own_thresholds { 0.0 } else { SHOWN_SCORE });
    let options = Options {
        limit: config.data.image_limit(),
        batch_size: config.eval.batch_size,
        keep_images: args.draw.is_some(),
    };
    let on_error = config.data.on_error;
    let mut results = Vec::new();
    let mut coco = Vec::new();
    let mut missing = Missing { images: files.len(), unreadable: 0, non_finite: 0 };
    let meta = &detector.checkpoint.meta;
    let limits = DeviceLimits::of(&picked.device);
    let mut check = InferenceCheck::new(&meta.model, meta.categories.len(), limits, precision);
    for group in Groups::new(&files, &detector, &options) {
        for (path, detected) in group.iter().zip(detect(&detector, group, &options, &mut check)?) {
            let Detected { image, width, height, found } = match detected {
                Ok(detected) => detected,
                Err(failed) => {
                    missing.add(&failed, on_error);
                    continue;
                }
            };
            if let Some(ids) = &ids {
                coco.extend(found.iter().map(|p| as_coco(p, ids[path])));
            }
            if let (Some(folder), Some(image)) = (&args.draw, &image) {
                save_drawn(&folder.join(&drawn[path]), image, &found, shown)?;
            }
            let detections = found.iter().map(as_found).collect();
            results.push(ImageResult { file: path.display().to_string(), width, height, detections });
        }
    }
    if let (Some(path), Some(_)) = (&args.coco, &ids) {
        output::create_parent(path)?;
        write_results(path, &coco)?;
    }
    if let Some(path) = &args.json {
        output::write_json(path, &results)?;
    } else if args.coco.is_none() && args.draw.is_none() {
        output::print(&listing(&results, shown))?;
    }
    missing.check(on_error)?;
    Ok(DONE)
}

/// Images without detections, which have been listed.
struct Missing {
    /// Number of all images.
    images: usize,
    /// Number of images that could not be read.
    unreadable: usize,
    /// Number of images for which the network's output is not finite.
    non_finite: usize,
}

impl Missing {
    /// Lists an image without detections.
    fn add(&mut self, failed: &Failed, on_error: OnError) {
        match failed {
            Failed::Unreadable(error) => {
                self.unreadable += 1;
                let kind = if on_error == OnError::Skip { "warning" } else { "error" };
                note!("{kind}: {error}");
            }
            Failed::NonFinite(error) => {
                self.non_finite += 1;
                note!("error: {error}");
            }
        }
    }

    /// Ends the command with an error if an image has no detections. With `on_error = "skip"`, images that could not be
    /// read are left out, unless they are all of them.
    fn check(&self, on_error: OnError) -> Result<()> {
        let Self { images, unreadable, non_finite } = *self;
        if non_finite > 0 {
            bail!("the network's output is not finite for {non_finite} of {images} images; they have no detections");
        }
        if unreadable == 0 {
            return Ok(());
        }
        if on_error == OnError::Skip && unreadable < images {
            note!("warning: {unreadable} of {images} images could not be read and were left out");
            return Ok(());
        }
        bail!("{unreadable} of {images} images could not be read; all others were processed")
    }
}

fn as_found(prediction: &Prediction) -> Found {
    let bbox = &prediction.detection.bbox;
    Found {
        bbox: [bbox.x1, bbox.y1, bbox.width(), bbox.height()],
        score: prediction.detection.score,
        category_id: prediction.category.id,
        category: prediction.category.name.clone(),
    }
}

fn as_coco(prediction: &Prediction, image_id: i64) -> CocoDetection {
    CocoDetection {
        image_id,
        category_id: prediction.category.id,
        bbox: bbox_to_xywh(&prediction.detection.bbox),
        score: f64::from(prediction.detection.score),
    }
}

fn save_drawn(path: &Path, image: &RgbImage, found: &[Prediction], shown: f32) -> Result<()> {
    let marks: Vec<Mark> = found
        .iter()
        .filter(|p| p.detection.score >= shown)
        .map(|p| Mark {
            bbox: p.detection.bbox,
            class: p.detection.class,
            text: format!("{} {:.2}", p.category.name, p.detection.score),
        })
        .collect();
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    draw(image, &marks).write_with_encoder(encoder).with_context(|| format!("cannot encode {}", path.display()))?;
    output::write_file(path, &bytes)
}

fn listing(results: &[ImageResult], shown: f32) -> String {
    let mut text = String::new();
    for result in results {
        let found: Vec<&Found> = result.detections.iter().filter(|found| found.score >= shown).collect();
        let (file, count) = (printable(&result.file), found.len());
        text += &format!(
            "{file}: {count} {} with a score of at least {shown}\n",
            if count == 1 { "object" } else { "objects" }
        );
        for Found { bbox: [x, y, width, height], score, category, .. } in found {
            let category = printable(category);
            text += &format!("  {score:.2}  {category}  at {x:.0},{y:.0}  {width:.0}x{height:.0}\n");
        }
    }
    text
}
