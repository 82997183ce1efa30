//! `foveal data show`: draws samples as the network gets them.

mod view;

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
use rayon::prelude::*;
use serde_json::{Value, json};

use super::is_page;
use crate::args::{Common, ShowArgs};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::draw::{Tile, sheet, sheet_size};
use crate::failure::{DONE, Usage};
use crate::output;
use crate::outputs::Files;
use crate::page::{Grid, Html, Page, Section, el};
use view::View;

/// Largest number of pixels of a sheet, whose memory is three bytes for each.
const MAX_PIXELS: u64 = 1 << 28;
/// Longest side of a sheet in pixels, which is the limit of the JPEG format.
const MAX_SIDE: u64 = 65_535;
/// Quality of sheets in JPEG format.
const JPEG_QUALITY: u8 = 90;
/// Number of classes that a message lists.
const LISTED_CLASSES: usize = 20;

/// An image of the sheet or page.
struct Shown {
    info: ImageInfo,
    /// The pixels with their padding.
    image: RgbImage,
    placed: PlacedObjects,
    targets: ImageTargets,
}

/// The kind of output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Sheet(ImageFormat),
    Page,
}

/// Draws the sheet or page and prints what is on it.
///
/// # Errors
/// [`Usage`] if the name of the output has no known ending, the epoch is after the last one, no class has a given name,
/// or the sheet would be too large; another error if the configuration or the data cannot be used, or a file cannot be
/// written.
pub(super) fn run(args: &ShowArgs, common: &Common) -> Result<u8> {
    let format = format_of(args)?;
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
    let dataset = Arc::new(of_classes(dataset, &args.classes)?);
    let (shown, costs) = load(args, &config, &dataset)?;
    if shown.is_empty() {
        bail!("{}: expected at least one image that can be loaded, found none", report.set);
    }
    let table = table(&shown, &dataset, &costs);
    let value = as_json(args, &config, &shown, &dataset, &costs);
    let views = views(args, shown, &dataset)?;
    match format {
        Format::Page => output::write_file(&args.output, page(args, views, &dataset).as_bytes())?,
        Format::Sheet(format) => {
            let columns = args.columns.map_or_else(|| (views.len() as f64).sqrt().ceil() as usize, |n| n as usize);
            let sizes: Vec<(u32, u32)> = views.iter().map(View::size).collect();
            check_size(sheet_size(&sizes, columns, args.side))?;
            let tiles: Vec<Tile> = views.into_iter().map(|view| view.tile(&dataset)).collect();
            save(&args.output, &sheet(&tiles, columns, args.side), format)?;
        }
    }
    output::emit(args.json.as_deref(), &value, &table)?;
    Ok(DONE)
}

/// The kind of output by the ending of its name.
fn format_of(args: &ShowArgs) -> Result<Format, Usage> {
    let path = &args.output;
    if is_page(path) {
        let of_sheets = [("--positives", args.positives), ("--columns", args.columns.is_some())];
        return match of_sheets.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Usage(format!("{option}: expected a contact sheet (.png or .jpg), found a page"))),
            None => Ok(Format::Page),
        };
    }
    match ImageFormat::from_path(path) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => Ok(Format::Sheet(format)),
        _ => Err(Usage(format!(
            "--output {}: expected a file name that ends in .png or .jpg, or .html for a page",
            path.display()
        ))),
    }
}

/// The images that have an object of one of the classes; all if no class is named.
fn of_classes(dataset: Dataset, names: &[String]) -> Result<Dataset> {
    if names.is_empty() {
        return Ok(dataset);
    }
    let categories = dataset.label_map().categories();
    let mut wanted = Vec::new();
    for name in names {
        let Some(class) = categories.iter().position(|category| category.name == *name) else {
            let known: Vec<&str> = categories.iter().take(LISTED_CLASSES).map(|category| &*category.name).collect();
            let more = if categories.len() > known.len() { ", …" } else { "" };
            return Err(
                Usage(format!("--class {name}: expected a class of the set: {}{more}", known.join(", "))).into()
            );
        };
        wanted.push(class as u32);
    }
    let has = |index: &usize| dataset.record(*index).objects.iter().any(|object| wanted.contains(&object.class));
    let kept: Vec<usize> = (0..dataset.len()).filter(has).collect();
    if kept.is_empty() {
        bail!("--class {}: expected an image with an object of the class, found none", names.join(", --class "));
    }
    Ok(dataset.select(&kept))
}

/// The samples, beside their stored images if they are wanted.
fn views(args: &ShowArgs, shown: Vec<Shown>, dataset: &Dataset) -> Result<Vec<View>> {
    let view = |shown: Shown| {
        let index = shown.info.index;
        let view = View::of(shown, dataset, args.positives);
        Ok(if args.original { view.beside(&dataset.load(index)?, dataset.record(index)) } else { view })
    };
    shown.into_par_iter().map(view).collect()
}

/// The page with the samples.
fn page(args: &ShowArgs, views: Vec<View>, dataset: &Dataset) -> String {
    let cards = views.into_par_iter().filter_map(|view| view.card(args.side)).collect();
    let classes = dataset.label_map().categories().iter().map(|category| category.name.clone()).collect();
    let set = if args.val { "validation" } else { "training" };
    let when = if args.val { String::new() } else { format!(" of epoch {}", args.epoch) };
    let beside = if args.original { " Each is on the right of its stored image." } else { "" };
    let note = format!(
        "Samples of the {set} set{when}, as the network gets them.{beside} Ignored regions are dotted. A click on an image \
         enlarges it."
    );
    let grid = Grid { id: "samples-grid".to_owned(), classes, score: None, filters: true, labels: true, cards };
    let body = Html::from(el("p").class("note").text(note)).with(grid.html());
    let sections = vec![Section { id: "samples".into(), title: "Samples".into(), body }];
    Page { title: format!("Samples of the {set} set"), lead: Html::new(), sections }.html()
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
