//! Import of the boxes of Open Images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::row::Row;

use super::{Table, is_set, number};
use crate::defect::{Defect, Place};
use crate::draft::{ClassList, Draft, DraftImage, DraftObject};
use crate::images::{Images, size};
use crate::{Converted, FormatError, OnError};

/// What a file of boxes should be, for messages.
const EXPECTED: &str = "a CSV file with the boxes of Open Images (ImageID,Source,LabelName,Confidence,XMin,XMax,...)";
/// The columns that are needed.
const NEEDED: [&str; 6] = ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"];
/// The columns of flags for which COCO has no field.
const FLAGS: [&str; 4] = ["IsOccluded", "IsTruncated", "IsDepiction", "IsInside"];
/// How far a fraction may be outside the range from 0 to 1.
const SLACK: f64 = 1e-3;

/// Options of [`convert_open_images`].
#[derive(Clone, Debug)]
pub struct OpenImagesOptions {
    /// The folder of the images, whose names are the image ids.
    pub images: PathBuf,
    /// The file of class descriptions (`LabelName,DisplayName`). Without it, the names of the categories are labels
    /// such as `/m/01g317`.
    pub class_descriptions: Option<PathBuf>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes all names that occur, sorted.
    pub classes: Option<Vec<String>>,
    /// Whether rows and images that cannot be converted are an error, or left out with a note.
    pub on_error: OnError,
}

/// Converts a file of the boxes of Open Images to COCO.
///
/// The coordinates are fractions of the image, whose size comes from the header of its file. Objects that stand for a
/// group (`IsGroupOf`) become crowd regions. COCO has no fields for `IsOccluded`, `IsTruncated`, `IsDepiction` and
/// `IsInside`, which are counted and left out, as are `Source` and `Confidence`.
///
/// # Errors
/// - [`FormatError::Io`] or [`FormatError::Convert`] for a file that cannot be read or has other columns
/// - [`FormatError::Listed`] for a file without images
/// - [`FormatError::Listed`] with the first defects if [`OpenImagesOptions::on_error`] is `Fail` and there are rows
///   that cannot be read, images that are missing, labels that have no description, or two labels with one name
pub fn convert_open_images(file: &Path, options: &OpenImagesOptions) -> Result<Converted, FormatError> {
    let descriptions = options.class_descriptions.as_deref().map(descriptions).transpose()?;
    let mut table = Table::open(file)?;
    let columns = match table.next()? {
        None => return Err(FormatError::convert(file, format!("the file is empty, expected {EXPECTED}"))),
        Some((line, row)) => {
            Columns::of(&row).map_err(|reason| FormatError::convert(file, format!("line {line}: {reason}")))?
        }
    };
    let images = Images::new(&options.images);
    let mut reader = Reader {
        file,
        columns,
        images,
        descriptions,
        draft: Draft::default(),
        labels: HashMap::new(),
        rows: HashMap::new(),
        lost: HashMap::new(),
    };
    while let Some((line, row)) = table.next()? {
        if let Err(reason) = reader.row(line, &row) {
            reader.draft.defects.add(Defect::at(file, line, reason));
        }
    }
    reader.draft.defects.lost(reader.lost.into_values());
    let classes = ClassList::of(options.classes.as_deref(), Vec::new());
    let converted = reader.draft.finish(file, EXPECTED, classes, options.on_error)?;
    Ok(Converted { images: Some(options.images.clone()), ..converted })
}

/// The columns of a file of boxes.
struct Columns {
    /// Those of [`NEEDED`].
    needed: [usize; 6],
    /// Those of [`FLAGS`], as far as the file has them.
    flags: [Option<usize>; 4],
    group: Option<usize>,
    count: usize,
}

impl Columns {
    fn of(row: &Row) -> Result<Self, String> {
        let find = |name: &str| row.iter().position(|found| found.trim().eq_ignore_ascii_case(name));
        let mut needed = [0; 6];
        for (slot, name) in needed.iter_mut().zip(NEEDED) {
            let found = foveal_base::first_chars(row.iter().collect::<Vec<_>>().join(","), 120);
            *slot = find(name).ok_or_else(|| format!("found the columns {found}, expected one named {name}"))?;
        }
        Ok(Self { needed, flags: FLAGS.map(find), group: find("IsGroupOf"), count: row.len() })
    }
}

/// A file that is being read.
struct Reader<'a> {
    file: &'a Path,
    columns: Columns,
    images: Images,
    /// Names of the labels.
    descriptions: Option<HashMap<String, String>>,
    draft: Draft,
    /// The label of each name that occurs.
    labels: HashMap<String, String>,
    /// The index of each image by its id; `None` if it cannot be used.
    rows: HashMap<String, Option<usize>>,
    /// The number of objects of each image that cannot be used, by its id.
    lost: HashMap<String, usize>,
}

impl Reader<'_> {
    fn row(&mut self, line: u64, row: &Row) -> Result<(), String> {
        let Columns { needed: [id, label, ..], count, group, flags, .. } = self.columns;
        if row.len() != count {
            return Err(format!("found {} fields, expected {count}", row.len()));
        }
        let label = row[label].trim();
        let id = row[id].trim();
        let index = self.image(id);
        if self.rows.get(id).is_some_and(Option::is_none) {
            *self.lost.entry(id.to_owned()).or_default() += 1;
        }
        let Some(index) = index? else { return Ok(()) };
        let mut fractions = [0.0; 4];
        for (value, slot) in fractions.iter_mut().zip(2..) {
            let (column, name) = (self.columns.needed[slot], NEEDED[slot]);
            *value = number(&row[column], name)?;
            if !(-SLACK..=1.0 + SLACK).contains(value) {
                return Err(format!("`{name}` is {value}, expected a fraction of the image, from 0 to 1"));
            }
        }
        let name = match &self.descriptions {
            None => label,
            Some(names) => names.get(label).map(String::as_str).ok_or_else(|| {
                format!("found the label {label:?}, expected one that is in the file of class descriptions")
            })?,
        };
        if name.is_empty() {
            return Err("`LabelName` is empty, expected a label such as /m/01g317".to_owned());
        }
        let name = name.to_owned();
        let of_name = self.labels.entry(name.clone()).or_insert_with(|| label.to_owned());
        if of_name != label {
            return Err(format!("the labels {of_name} and {label} both have the name {name:?}; expected two names"));
        }
        for (flag, column) in FLAGS.iter().zip(flags) {
            self.draft.notes.fields(flag, usize::from(column.is_some_and(|column| is_set(&row[column]))));
        }
        let crowd = group.is_some_and(|column| is_set(&row[column]));
        let (width, height) = self.draft.images[index].size;
        let [x1, x2, y1, y2] = fractions;
        let [width, height] = [f64::from(width), f64::from(height)];
        let corners = [x1 * width, y1 * height, x2 * width, y2 * height];
        let object = DraftObject { label: self.draft.label(&name), corners, crowd, place: Place::Line(line) };
        self.draft.images[index].objects.push(object);
        Ok(())
    }

    /// The index of an image; `None` if it cannot be used, which the first of its rows has said.
    fn image(&mut self, id: &str) -> Result<Option<usize>, String> {
        if let Some(known) = self.rows.get(id) {
            return Ok(*known);
        }
        let found = match id {
            "" => Err("`ImageID` is empty, expected the name of an image without its extension".to_owned()),
            id => self.images.with_stem(id).and_then(|image| Ok((image.name, size(&image.path)?))),
        };
        let index = found.as_ref().ok().map(|_| self.draft.images.len());
        self.rows.insert(id.to_owned(), index);
        let (name, size) = found?;
        self.draft.images.push(DraftImage { name, size, from: self.file.to_owned(), objects: Vec::new() });
        Ok(index)
    }
}

/// The names of the labels. A first row with the names of the columns is no label.
fn descriptions(path: &Path) -> Result<HashMap<String, String>, FormatError> {
    let mut table = Table::open(path)?;
    let mut names = HashMap::new();
    let mut first = true;
    while let Some((line, row)) = table.next()? {
        let wrong = |reason: String| FormatError::convert(path, format!("line {line}: {reason}"));
        let (Some(label), Some(name)) = (row.get(0), row.get(1)) else {
            return Err(wrong(format!("found {} field, expected two: LabelName,DisplayName", row.len())));
        };
        let (label, name) = (label.trim().to_owned(), name.to_owned());
        let is_header = std::mem::take(&mut first) && ["labelname", "id", "mid"].contains(&&*label.to_lowercase());
        if is_header {
            continue;
        }
        if name.trim().is_empty() || label.is_empty() {
            return Err(wrong("a label or its name is empty, expected LabelName,DisplayName".to_owned()));
        }
        names.insert(label, name);
    }
    Ok(names)
}
