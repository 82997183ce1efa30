//! Import of YOLO data sets: label files, data.yaml, and lists of classes.

pub(crate) mod config;
mod files;
mod label;
pub(crate) mod yaml;

use std::path::{Path, PathBuf};

use foveal_base::text::read_data_text;

use crate::defect::{Defect, Place};
use crate::draft::{ClassList, Draft, DraftImage, DraftObject};
use crate::images::size;
use crate::notes::Kind;
use crate::{Converted, FormatError, OnError};
use config::Config;
use files::Files;
use label::Label;

/// What a YOLO data set should be, for messages.
const EXPECTED: &str = "a YOLO data set (data.yaml, or a folder with images and labels)";
/// Names of data.yaml.
const CONFIGS: [&str; 3] = ["data.yaml", "data.yml", "dataset.yaml"];
/// Names of files with one class a line.
const CLASS_FILES: [&str; 3] = ["classes.txt", "obj.names", "labels/classes.txt"];

/// Options of [`convert_yolo`].
#[derive(Clone, Debug, Default)]
pub struct YoloOptions {
    /// The split of data.yaml that is converted; `None` is `train`. It cannot be used with folders.
    pub split: Option<String>,
    /// The folder of the images; `None` is that of the split, or `images` in the data set's folder.
    pub images: Option<PathBuf>,
    /// The folder of the label files; `None` is that of the split, or `labels` in the data set's folder.
    pub labels: Option<PathBuf>,
    /// Names of the classes by their index. `None` takes those of data.yaml or of `classes.txt`.
    pub classes: Option<Vec<String>>,
    /// Whether labels and images that cannot be converted are an error, or left out with a note.
    pub on_error: OnError,
}

/// Converts a YOLO data set to COCO. `from` is data.yaml, or a folder that contains it, or a folder with the folders
/// `images` and `labels`.
///
/// The box of a label is `[(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]` in pixels; the size of
/// the image comes from the header of its file, after its EXIF orientation is applied. Polygons and oriented boxes
/// become the upright boxes around them. An image without a label file has no objects, and a label file without an
/// image is left out. The category of class `i` has the id `i + 1`.
///
/// # Errors
/// - [`FormatError::Io`] or [`FormatError::Convert`] for a file or folder that cannot be read, or data.yaml without
///   names or without the split
/// - [`FormatError::Listed`] for a data set without images
/// - [`FormatError::Listed`] with the first defects if [`YoloOptions::on_error`] is `Fail` and there are lines that are
///   no labels, images whose size cannot be read, or no images of more than half of the label files
pub fn convert_yolo(from: &Path, options: &YoloOptions) -> Result<Converted, FormatError> {
    let mut draft = Draft::default();
    let config = config_of(from, options)?;
    let files = match (&config, options.images.is_some() || options.labels.is_some()) {
        (Some(config), false) => {
            Files::of_split(config, options.split.as_deref().unwrap_or("train"), &mut draft.defects)?
        }
        (_, folders) => {
            if let Some(split) = &options.split {
                let reason = format!(
                    "the split {split:?} needs data.yaml; found {}",
                    if folders { "the folders of --images and --labels" } else { "none" }
                );
                return Err(FormatError::convert(from, reason));
            }
            let images = options.images.clone().unwrap_or_else(|| from.join("images"));
            let labels = options.labels.clone().unwrap_or_else(|| from.join("labels"));
            Files::of_folders(&images, &labels)?
        }
    };
    let keypoints = config.as_ref().and_then(|config| config.keypoints);
    let names = match (&options.classes, config) {
        (Some(names), _) => names.clone(),
        (None, Some(config)) => config.names,
        (None, None) => class_file(from, options)?,
    };
    files.find_orphans(&mut draft.notes, &mut draft.defects)?;
    for (image, label) in &files.images {
        let name = image.strip_prefix(&files.root).unwrap_or(image).to_string_lossy().into_owned();
        match size(image) {
            Ok(size) => add(&mut draft, name, size, label, &names, keypoints),
            Err(reason) => draft.defects.add_image(Defect::of(label, reason), labels_in(label)),
        }
    }
    let converted = draft.finish(from, EXPECTED, ClassList::Given(names), options.on_error)?;
    Ok(Converted { images: Some(files.root), ..converted })
}

/// The number of labels in a file.
fn labels_in(label: &Path) -> usize {
    read_data_text(label).map_or(0, |text| text.lines().filter(|line| !line.trim().is_empty()).count())
}

/// Adds an image with the objects of its label file.
fn add(
    draft: &mut Draft,
    name: String,
    (width, height): (u32, u32),
    label: &Path,
    names: &[String],
    keypoints: Option<usize>,
) {
    let mut objects = Vec::new();
    let text = match read_data_text(label) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            draft.notes.add(Kind::NoLabelFile, || name.clone());
            String::new()
        }
        Err(error) => return draft.defects.add(Defect::of(label, format!("cannot be read: {error}"))),
    };
    let scale = [f64::from(width), f64::from(height), f64::from(width), f64::from(height)];
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        match Label::read(text, names.len(), keypoints) {
            Ok(read) => {
                let class = &names[read.class];
                if let Some(kind) = read.note {
                    draft.notes.at(kind, label, Place::Line(line), &format!("{class:?}"));
                }
                let mut corners = read.corners;
                corners.iter_mut().zip(scale).for_each(|(edge, side)| *edge *= side);
                objects.push(DraftObject {
                    label: draft.label(class),
                    corners,
                    crowd: false,
                    place: Place::Line(line),
                });
            }
            Err(reason) => draft.defects.add(Defect::at(label, line, reason)),
        }
    }
    draft.images.push(DraftImage { name, size: (width, height), from: label.to_owned(), objects });
}

/// data.yaml, unless the data set has none.
fn config_of(from: &Path, options: &YoloOptions) -> Result<Option<Config>, FormatError> {
    if from.is_file() {
        return Config::read(from).map(Some);
    }
    if options.images.is_none()
        && let Err(source) = std::fs::read_dir(from)
    {
        return Err(FormatError::io(from, source));
    }
    let path = CONFIGS.iter().map(|name| from.join(name)).find(|path| path.is_file());
    path.map(|path| Config::read(&path)).transpose()
}

/// The names of `classes.txt`, one a line.
fn class_file(from: &Path, options: &YoloOptions) -> Result<Vec<String>, FormatError> {
    let mut places: Vec<PathBuf> = CLASS_FILES.iter().map(|name| from.join(name)).collect();
    places.extend(options.labels.iter().map(|labels| labels.join("classes.txt")));
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        let reason = "found no names of classes; expected data.yaml, classes.txt, or --classes with the names by index";
        return Err(FormatError::convert(from, reason));
    };
    let text = read_data_text(path).map_err(|error| FormatError::convert(path, format!("cannot be read: {error}")))?;
    let text = text.trim_end();
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if let Some(line) = names.iter().position(String::is_empty) {
        let reason = format!("line {}: found an empty line, expected the name of class {line}", line + 1);
        return Err(FormatError::convert(path, reason));
    }
    Ok(names)
}
