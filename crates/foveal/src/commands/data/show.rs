//! `foveal data show`: draws samples as the network gets them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use foveal_anchors::ImageTargets;
use foveal_base::printable;
use foveal_boxes::BBox;
use foveal_data::{
    Batch, Dataset, ImageInfo, LoaderOptions, Opened, PlacedObjects, TransformCosts, TransformTimes, loader, part_uses,
};
use foveal_image::RgbImage;
use foveal_train::RunConfig;
use image::ImageFormat;
use serde_json::{Value, json};

use crate::args::{Common, ShowArgs};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::draw::{Mark, Tile, sheet, sheet_size};
use crate::failure::{DONE, Usage};
use crate::output;
use crate::outputs::Files;

/// Largest number of pixels of a sheet, whose memory is three bytes for each.
const MAX_PIXELS: u64 = 1 << 28;
/// Longest side of a sheet in pixels, which is the limit of the JPEG format.
const MAX_SIDE: u64 = 65_535;
/// Quality of sheets in JPEG format.
const JPEG_QUALITY: u8 = 90;

/// An image of the sheet.
struct Shown {
    info: ImageInfo,
    /// The pixels with their padding.
    image: RgbImage,
    placed: PlacedObjects,
    targets: ImageTargets,
}

/// Draws the sheet and prints what is on it.
///
/// # Errors
/// [`Usage`] if the name of the sheet has no known ending, the epoch is after the last one, or the sheet would be too
/// large; another error if the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(args: &ShowArgs, common: &Common) -> Result<u8> {
    let format = format_of(&args.output)?;
    let Loaded { config, files } = config::open(Some(&args.config), &common.set)?;
    Files::new()
        .read("configuration", &files)
        .read_config(&config)
        .write("--output", [&args.output])
        .write("--json", &args.json)
        .check()?;
    let epochs = config.train.epochs;
    if args.epoch as usize > epochs {
        let found = args.epoch;
        return Err(Usage(format!("--epoch {found}: expected at most train.epochs, which is {epochs}")).into());
    }
    let Opened { dataset, report } = if args.val { config.data.open_val()? } else { config.data.open_train()? };
    if !report.is_clean() {
        note!("warning: {}: {}", report.set, report.summary());
    }
    part_uses(&dataset, &config.data).iter().for_each(|used| note!("{used}"));
    let dataset = Arc::new(dataset);
    let (shown, costs) = load(args, &config, &dataset)?;
    if shown.is_empty() {
        bail!("{}: expected at least one image that can be loaded, found none", report.set);
    }
    let columns = args.columns.map_or_else(|| (shown.len() as f64).sqrt().ceil() as usize, |n| n as usize);
    let sizes: Vec<(u32, u32)> = shown.iter().map(|s| s.image.dimensions()).collect();
    check_size(sheet_size(&sizes, columns, args.side))?;
    let table = table(&shown, &dataset, &costs);
    let value = as_json(args, &config, &shown, &dataset, &costs);
    let tiles: Vec<Tile> = shown.into_iter().map(|s| tile(s, &dataset, args.positives)).collect();
    save(&args.output, &sheet(&tiles, columns, args.side), format)?;
    output::emit(args.json.as_deref(), &value, &table)?;
    Ok(DONE)
}

/// The format of a sheet by the ending of its name.
fn format_of(path: &Path) -> Result<ImageFormat, Usage> {
    match ImageFormat::from_path(path) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => Ok(format),
        _ => Err(Usage(format!("--output {}: expected a file name that ends in .png or .jpg", path.display()))),
    }
}

fn check_size((width, height): (u64, u64)) -> Result<(), Usage> {
    if width * height <= MAX_PIXELS && width.max(height) <= MAX_SIDE {
        return Ok(());
    }
    Err(Usage(format!(
        "the sheet would have {width} x {height} pixels, expected at most {MAX_PIXELS} and at most {MAX_SIDE} along a \
         side; lower --count or --side, or change --columns"
    )))
}

/// Loads the first images of the epoch with the loader of the training, and what their transforms cost.
fn load(args: &ShowArgs, config: &RunConfig, dataset: &Arc<Dataset>) -> Result<(Vec<Shown>, TransformCosts)> {
    let options = LoaderOptions {
        batch_size: if args.val { config.eval.batch_size } else { config.train.batch_size },
        seed: args.seed.unwrap_or(config.train.seed),
        training: !args.val,
        anchors: config.model.anchors.clone(),
        matcher: config.matcher,
        first: 0,
        epochs: Some(config.train.epochs),
    };
    let preprocess = config.data.preprocess();
    let (mut shown, mut times) = (Vec::new(), TransformTimes::new(&config.data.augment));
    for batch in loader(Arc::clone(dataset), &config.data, options, u64::from(args.epoch) - 1) {
        let Batch { images, targets, placed, info, skipped, transform_times, .. } = batch?;
        skipped.iter().for_each(|skipped| note!("warning: image {}: {}", skipped.image_id, skipped.reason));
        times.extend(&transform_times);
        let images = images.into_normalised();
        for (index, ((info, placed), targets)) in info.into_iter().zip(placed).zip(targets).enumerate() {
            shown.push(Shown { info, image: preprocess.denormalised(&images, index), placed, targets });
            if shown.len() == args.count as usize {
                return Ok((shown, times.costs()));
            }
        }
    }
    Ok((shown, times.costs()))
}

fn tile(shown: Shown, dataset: &Dataset, positives: bool) -> Tile {
    let Shown { info, image, placed, targets } = shown;
    let categories = dataset.label_map().categories();
    let mark = |(bbox, class): (&BBox, &u32)| Mark {
        bbox: *bbox,
        class: *class,
        text: categories[*class as usize].name.clone(),
    };
    let anchors = targets.positives.iter().map(|positive| (positive.anchor_box, positive.class));
    Tile {
        image,
        caption: format!("{} {}", info.image_id, dataset.record(info.index).file_name),
        marks: placed.boxes.iter().zip(&placed.classes).map(mark).collect(),
        hatched: placed.crowds,
        thin: if positives { anchors.collect() } else { Vec::new() },
    }
}

fn save(path: &Path, sheet: &RgbImage, format: ImageFormat) -> Result<()> {
    let mut bytes = Vec::new();
    let encoded = if format == ImageFormat::Jpeg {
        sheet.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
    } else {
        sheet.write_with_encoder(image::codecs::png::PngEncoder::new(&mut bytes))
    };
    encoded.with_context(|| format!("cannot encode {}", path.display()))?;
    output::write_file(path, &bytes)
}

fn table(shown: &[Shown], dataset: &Dataset, costs: &TransformCosts) -> String {
    let mut table = format!(
        " {:>12}  {:>9}  {:>9}  {:>7}  {:>7}  {:>9}  file\n",
        "image", "size", "padded", "objects", "ignored", "positives"
    );
    for Shown { info, image, placed, targets } in shown {
        let size = format!("{}x{}", info.frame.height, info.frame.width);
        let padded = format!("{}x{}", image.height(), image.width());
        let (objects, ignored) = (placed.boxes.len(), placed.crowds.len());
        table += &format!(
            " {:>12}  {size:>9}  {padded:>9}  {objects:>7}  {ignored:>7}  {:>9}  {}\n",
            info.image_id,
            targets.positives.len(),
            printable(&named(dataset, info.index))
        );
    }
    table + &costs.to_string()
}

/// The name of an image, with its set where the data set was joined from several.
fn named(dataset: &Dataset, index: usize) -> String {
    let name = &dataset.record(index).file_name;
    match dataset.origin(index) {
        None => name.clone(),
        Some((part, _)) => format!("{name} ({})", part.key),
    }
}

fn as_json(args: &ShowArgs, config: &RunConfig, shown: &[Shown], dataset: &Dataset, costs: &TransformCosts) -> Value {
    let categories = dataset.label_map().categories();
    let xywh = |b: &BBox| [b.x1, b.y1, b.width(), b.height()];
    let image = |Shown { info, image, placed, targets }: &Shown| {
        let object = |(bbox, class): (&BBox, &u32)| {
            let category = &categories[*class as usize];
            json!({"bbox": xywh(bbox), "category_id": category.id, "category": category.name})
        };
        let mut value = json!({
            "image_id": info.image_id,
            "file": dataset.record(info.index).file_name,
            "height": info.frame.height,
            "width": info.frame.width,
            "padded_height": image.height(),
            "padded_width": image.width(),
            "objects": placed.boxes.iter().zip(&placed.classes).map(object).collect::<Vec<_>>(),
            "ignored": placed.crowds.iter().map(xywh).collect::<Vec<_>>(),
            "positives": targets.positives.iter().map(|p| xywh(&p.anchor_box)).collect::<Vec<_>>(),
        });
        if let Some((part, _)) = dataset.origin(info.index) {
            value["set"] = part.path.as_str().into();
        }
        value
    };
    json!({
        "set": if args.val { "val" } else { "train" },
        "epoch": (!args.val).then_some(args.epoch),
        "seed": (!args.val).then_some(args.seed.unwrap_or(config.train.seed)),
        "images": shown.iter().map(image).collect::<Vec<_>>(),
        "transforms": costs,
    })
}

#[cfg(test)]
mod tests {
    use super::check_size;

    #[test]
    fn sheets_that_no_file_can_hold_are_refused() {
        assert!(check_size((16_384, 16_384)).is_ok() && check_size((4096, 65_535)).is_ok());
        for size in [(16_385, 16_384), (1, 65_536)] {
            let text = check_size(size).unwrap_err().to_string();
            assert!(text.contains(&size.1.to_string()) && text.contains("--side"), "{text}");
        }
    }
}
