//! Import of LabelMe annotations: a folder with one JSON file for each image.

use std::path::{Path, PathBuf};

use foveal_base::excerpt;
use foveal_base::text::read_data_text;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::corners::around;
use crate::defect::{Defect, Place};
use crate::draft::{ClassList, Draft, DraftImage, DraftObject};
use crate::images::{Images, Way, entries_below, has_extension, size};
use crate::notes::Kind;
use crate::{Converted, FormatError, OnError};

/// What a folder of LabelMe annotations should be, for messages.
const EXPECTED: &str = "a folder with LabelMe's JSON files, one for each image";

/// Types of shapes that have no box.
const NO_BOX: [&str; 4] = ["point", "points", "line", "linestrip"];

/// Options of [`convert_labelme`].
#[derive(Clone, Debug, Default)]
pub struct LabelmeOptions {
    /// The folder of the images; `None` is the folder of the annotations.
    pub images: Option<PathBuf>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes all names that occur, sorted.
    pub classes: Option<Vec<String>>,
    /// Whether files and shapes that cannot be converted are an error, or left out with a note.
    pub on_error: OnError,
}

/// A file of LabelMe. Fields that are not listed are skipped.
#[derive(Deserialize)]
struct File {
    shapes: Option<Vec<Value>>,
    #[serde(rename = "imagePath")]
    image_path: Option<String>,
    #[serde(rename = "imageWidth")]
    width: Option<u32>,
    #[serde(rename = "imageHeight")]
    height: Option<u32>,
    /// The image in base64, which is not needed.
    #[serde(rename = "imageData")]
    image_data: Option<IgnoredAny>,
    flags: Option<Value>,
}

/// Converts a folder of LabelMe annotations to COCO: all JSON files in it and in its subfolders.
///
/// Rectangles become boxes between their corners; polygons, circles, masks and oriented rectangles become the upright
/// boxes around them. Points and lines have no box and are left out. The image of a file is its `imagePath`, relative
/// to the file or to [`LabelmeOptions::images`], else the image of the file's name. The size of an image comes from the
/// JSON file, or from the image file if it has none; the embedded image (`imageData`) is not kept.
///
/// # Errors
/// - [`FormatError::Io`] for a folder that cannot be read
/// - [`FormatError::Listed`] for a folder without annotations
/// - [`FormatError::Listed`] with the first defects if [`LabelmeOptions::on_error`] is `Fail` and there are files or
///   shapes that cannot be read, images that are missing, or classes that are not in [`LabelmeOptions::classes`]
pub fn convert_labelme(folder: &Path, options: &LabelmeOptions) -> Result<Converted, FormatError> {
    let root = options.images.as_deref().unwrap_or(folder);
    let mut reader = Reader { draft: Draft::default(), folder, images: Images::new(root) };
    for path in entries_below(folder, |path| has_extension(path, "json"))? {
        if let Err(defect) = reader.file(&path) {
            reader.draft.defects.add(defect);
        }
    }
    let classes = ClassList::of(options.classes.as_deref(), Vec::new());
    let converted = reader.draft.finish(folder, EXPECTED, classes, options.on_error)?;
    Ok(Converted { images: Some(root.to_owned()), ..converted })
}

/// A folder that is being read.
struct Reader<'a> {
    draft: Draft,
    folder: &'a Path,
    images: Images,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<(), Defect> {
        let wrong = |reason: String| Defect::of(path, reason);
        let text = read_data_text(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let file: File = serde_json::from_str(&text)
            .map_err(|error| Defect::at(path, error.line().max(1) as u64, excerpt(format!("{error}"))))?;
        let Some(shapes) = file.shapes else {
            return Err(wrong("has no `shapes`, expected a file of LabelMe".to_owned()));
        };
        let sides = [file.width, file.height].map(|side| side.filter(|side| *side > 0));
        let image = self.image(path, file.image_path.as_deref()).and_then(|(name, image)| match sides {
            [Some(width), Some(height)] => Ok((name, (width, height))),
            _ => Ok((name, size(&image)?)),
        });
        let (name, size) = match image {
            Ok(image) => image,
            Err(reason) => {
                self.draft.defects.add_image(wrong(reason), shapes.iter().filter(|shape| has_box(shape)).count());
                return Ok(());
            }
        };
        if file.image_data.is_some() {
            self.draft.notes.add(Kind::Embedded, || path.display().to_string());
        }
        self.flags("flags of images", file.flags.as_ref());
        let mut objects = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            match self.shape(path, index, shape) {
                Ok(object) => objects.extend(object),
                Err(reason) => self.draft.defects.add(Defect::within(path, Place::Entry("shapes", index), reason)),
            }
        }
        self.draft.images.push(DraftImage { name, size, from: path.to_owned(), objects });
        Ok(())
    }

    /// The name of the image of a file, relative to the folder of images, and its path.
    fn image(&mut self, path: &Path, inside: Option<&str>) -> Result<(String, PathBuf), String> {
        let parent = path.parent().unwrap_or(self.folder);
        let inside = inside.filter(|name| !name.is_empty()).map(|name| name.replace('\\', "/"));
        // Relative to the file, if that is in the folder of images.
        let beside = inside.as_deref().map(|name| parent.join(name)).filter(|image| image.is_file());
        let beside = beside.and_then(|image| Some((image.canonicalize().ok()?, image)));
        if let (Some((real, image)), Ok(root)) = (beside, self.images.root().canonicalize())
            && let Ok(name) = real.strip_prefix(root)
        {
            return Ok((name.to_string_lossy().into_owned(), image));
        }
        let found = match &inside {
            Some(name) => self.images.find(name),
            None => Err("has no `imagePath`, expected the file name of its image".to_owned()),
        };
        let stem = path.strip_prefix(self.folder).unwrap_or(path).with_extension("");
        let found = found.or_else(|reason| self.images.with_stem(&stem.to_string_lossy()).map_err(|_| reason));
        let image = found?;
        let kind = if image.way == Way::Spelling { Kind::Spelling } else { Kind::LastPart };
        if image.way != Way::Exact {
            self.draft.notes.add(kind, || format!("{} belongs to {}", path.display(), image.name));
        }
        Ok((image.name, image.path))
    }

    /// The object of a shape, unless the shape has no box.
    fn shape(&mut self, path: &Path, index: usize, shape: &Value) -> Result<Option<DraftObject>, String> {
        let Value::Object(shape) = shape else { return Err(format!("found {}, expected an object", kind(shape))) };
        let label = match shape.get("label") {
            Some(Value::String(label)) if !label.is_empty() => label.clone(),
            Some(Value::Number(label)) => label.to_string(),
            found => return Err(format!("`label` is {}, expected the name of a class", found.map_or("missing", kind))),
        };
        let points = points(shape)?;
        // Old versions have polygons alone and do not name the type.
        let form = match shape.get("shape_type") {
            None | Some(Value::Null) => "polygon",
            Some(Value::String(form)) => form.as_str(),
            Some(found) => return Err(format!("`shape_type` is {}, expected a text", kind(found))),
        };
        let (least, note) = match form {
            "rectangle" => (2, None),
            "polygon" => (3, Some(Kind::Polygon)),
            "circle" => (2, Some(Kind::Circle)),
            "mask" => (2, Some(Kind::Mask)),
            "oriented_rectangle" | "rotation" => (4, Some(Kind::Rotated)),
            form if NO_BOX.contains(&form) => (0, Some(Kind::NoShapeBox)),
            _ => {
                return Err(format!(
                    "`shape_type` is {form:?}, expected rectangle, polygon, circle, mask, oriented_rectangle, point, \
                     points, line or linestrip"
                ));
            }
        };
        if points.len() < least {
            return Err(format!("a {form} has {} points, expected at least {least}", points.len()));
        }
        let corners = match (form, points.as_slice()) {
            _ if least == 0 => None,
            ("circle", [[x, y], [px, py], ..]) => {
                let radius = (px - x).hypot(py - y);
                Some([x - radius, y - radius, x + radius, y + radius])
            }
            _ => around(&points),
        };
        if let Some(kind) = note {
            self.draft.notes.add(kind, || format!("{}, shapes[{index}]: {form} {label:?}", path.display()));
        }
        let Some(corners) = corners else { return Ok(None) };
        self.flags("flags", shape.get("flags"));
        for key in ["group_id", "description", "score", "attributes"] {
            let set = match shape.get(key) {
                None | Some(Value::Null) => false,
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Object(fields)) => !fields.is_empty(),
                Some(_) => true,
            };
            self.draft.notes.fields(key, usize::from(set));
        }
        let object = DraftObject {
            label: self.draft.label(&label),
            corners,
            crowd: false,
            place: Place::Entry("shapes", index),
        };
        Ok(Some(object))
    }

    /// Counts the flags that are set.
    fn flags(&mut self, name: &str, flags: Option<&Value>) {
        if let Some(Value::Object(flags)) = flags {
            self.draft.notes.fields(name, flags.values().filter(|flag| **flag == Value::Bool(true)).count());
        }
    }
}

/// Whether a shape is of a type that has a box.
fn has_box(shape: &Value) -> bool {
    !shape.get("shape_type").and_then(Value::as_str).is_some_and(|form| NO_BOX.contains(&form))
}

fn points(shape: &Map<String, Value>) -> Result<Vec<[f64; 2]>, String> {
    let points = match shape.get("points") {
        Some(Value::Array(points)) => points,
        found => return Err(format!("`points` is {}, expected a list of points", found.map_or("missing", kind))),
    };
    let point = |point: &Value| match point.as_array().map(Vec::as_slice) {
        Some([x, y]) => Some([x.as_f64()?, y.as_f64()?]),
        _ => None,
    };
    let checked = points.iter().map(|value| {
        point(value).ok_or_else(|| format!("`points` has {}, expected two numbers [x, y]", excerpt(value.to_string())))
    });
    checked.collect()
}

/// The type of a JSON value with its article, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "empty",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
