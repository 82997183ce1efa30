//! Export to YOLO: label files, data.yaml and links to the images.

use std::path::Path;

use super::source::{Object, Source};
use super::{ExportOptions, Exported, tree};
use crate::FormatError;
use crate::defect::Defect;
use crate::images::inside;
use crate::notes::{Kind, Notes};
use crate::yolo::config::Config;
use crate::yolo::yaml::quoted;

/// Names of the splits in data.yaml, in the order in which they are written.
const SPLITS: [&str; 3] = ["train", "val", "test"];
/// Keys of data.yaml that are no splits.
const KEYS: [&str; 3] = ["names", "nc", "path"];

/// Exports COCO annotations to a YOLO data set: `labels/SPLIT/NAME.txt`, data.yaml, and the images in `images/SPLIT` if
/// [`ExportOptions::images`] gives their folder.
///
/// A label is `class cx cy w h` with eight decimals, as fractions of the image. Boxes are clipped to their image,
/// because programs refuse fractions outside the range from 0 to 1. Crowd regions are left out. Other splits can be
/// written into the same folder if their classes are the same.
///
/// # Errors
/// - the errors of reading the annotations
/// - [`FormatError::Convert`] if the folder of the split is not empty, or if data.yaml has other classes
/// - [`FormatError::Listed`] with the first defects if [`ExportOptions::on_error`] is `Fail` and there are images
///   without a size, names that leave the folder, or two images with the same label file
/// - [`FormatError::Io`] or [`FormatError::Write`] if a file cannot be written
pub fn export_yolo(file: &Path, out: &Path, split: &str, options: &ExportOptions) -> Result<Exported, FormatError> {
    if inside(split).as_deref() != Some(split) || split.contains('/') || KEYS.contains(&split) {
        return Err(FormatError::convert(file, format!("the split is {split:?}, expected a name such as train")));
    }
    let mut source = Source::read(file, options, false)?;
    for (class, name) in source.classes.iter().enumerate() {
        if name.is_empty() {
            source.defects.add(Defect::of(file, format!("class {class} has an empty name, expected a name")));
        }
    }
    source.once(file, tree::stem);
    source.check(file, options)?;
    let [labels, images] = ["labels", "images"].map(|folder| out.join(folder).join(split));
    tree::is_new(&labels)?;
    tree::is_new(&images)?;
    let config = out.join("data.yaml");
    let text = config_text(&config, split, &source.classes)?;
    for picture in &mut source.pictures {
        let notes = &mut source.notes;
        let name = &picture.name;
        picture.objects.retain_mut(|object| clip(object, picture.size, notes, name));
        let lines: Vec<String> = picture.objects.iter().map(|object| line(object, picture.size)).collect();
        tree::write_new(&tree::beside(&labels, &picture.name, "txt"), lines.concat().as_bytes())?;
    }
    tree::create(&labels)?;
    let placed = tree::place(&images, &source.pictures, options.placement)?;
    tree::write(&config, text.as_bytes())?;
    Ok(source.exported(placed))
}

/// Clips the box of an object to its image. Returns false if nothing of it is in the image.
fn clip(object: &mut Object, (width, height): (u32, u32), notes: &mut Notes, name: &str) -> bool {
    let [x1, y1, x2, y2] = object.corners;
    let [width, height] = [f64::from(width), f64::from(height)];
    let clipped = [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)];
    if clipped == object.corners {
        return true;
    }
    let what = || format!("{name}: [{x1}, {y1}, {x2}, {y2}]");
    if clipped[0] >= clipped[2] || clipped[1] >= clipped[3] {
        notes.add(Kind::Beyond, what);
        return false;
    }
    notes.add(Kind::Clipped, what);
    object.corners = clipped;
    true
}

fn line(object: &Object, (width, height): (u32, u32)) -> String {
    let [x1, y1, x2, y2] = object.corners;
    let [width, height] = [f64::from(width), f64::from(height)];
    let [cx, cy, w, h] = [(x1 + x2) / 2.0 / width, (y1 + y2) / 2.0 / height, (x2 - x1) / width, (y2 - y1) / height];
    format!("{} {cx:.8} {cy:.8} {w:.8} {h:.8}\n", object.class)
}

/// The text of data.yaml, with the splits that the existing file has.
fn config_text(path: &Path, split: &str, classes: &[String]) -> Result<String, FormatError> {
    let mut splits = Vec::new();
    if path.exists() {
        let config = Config::read(path)?;
        if config.names != classes {
            let reason = format!(
                "the file has the classes {}, expected {} as in the annotations; write into another folder",
                config.names.join(", "),
                classes.join(", ")
            );
            return Err(FormatError::convert(path, reason));
        }
        splits = config.exported_splits()?;
        splits.retain(|known| known != split);
    }
    splits.push(split.to_owned());
    splits.sort_by_key(|name| SPLITS.iter().position(|known| known == name).unwrap_or(SPLITS.len()));
    let splits: Vec<String> =
        splits.iter().map(|name| format!("{}: {}\n", key(name), quoted(&format!("images/{name}")))).collect();
    let names: Vec<String> =
        classes.iter().enumerate().map(|(class, name)| format!("  {class}: {}\n", quoted(name))).collect();
    Ok(format!("{}\nnc: {}\nnames:\n{}", splits.concat(), classes.len(), names.concat()))
}

/// A key of data.yaml, without quotes if it is a plain name.
fn key(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { quoted(name) }
}
