//! Import of CSV files with one box in each row.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::row::Row;

use super::columns::{Columns, Form};
use super::{Table, is_set, number};
use crate::defect::{Defect, Place};
use crate::draft::{ClassList, Draft, DraftImage, DraftObject};
use crate::images::{Images, Way, size};
use crate::notes::Kind;
use crate::{Converted, FormatError, OnError};

/// What a table should be, for messages.
const EXPECTED: &str = "a CSV file with one box in each row";

/// Options of [`convert_csv`].
#[derive(Clone, Debug, Default)]
pub struct CsvOptions {
    /// The folder of the images. `None` is the folder of the CSV file, in which images are only looked up if the file
    /// has no columns for their sizes.
    pub images: Option<PathBuf>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes all names that occur, sorted.
    pub classes: Option<Vec<String>>,
    /// Whether rows and images that cannot be converted are an error, or left out with a note.
    pub on_error: OnError,
}

/// Converts a CSV file with one box in each row to COCO.
///
/// Without names of columns, a row is `path,x1,y1,x2,y2,class` in pixels, as torchvision's and keras-retinanet's tools
/// have it; a row with empty numbers is an image without objects. Names of columns in the first row can be in any
/// order, such as TensorFlow's `filename,width,height,class,xmin,ymin,xmax,ymax`. Fields can be quoted, so that names
/// can contain commas and quotes. Names of classes are taken as they are, with the spaces around them.
///
/// # Errors
/// - [`FormatError::Io`] or [`FormatError::Convert`] for a file that cannot be read, has other columns or a quote that
///   is not closed, and for coordinates that are fractions
/// - [`FormatError::Listed`] for a file without images
/// - [`FormatError::Listed`] with the first defects if [`CsvOptions::on_error`] is `Fail` and there are rows that
///   cannot be read, images that are missing, or classes that are not in [`CsvOptions::classes`]
pub fn convert_csv(file: &Path, options: &CsvOptions) -> Result<Converted, FormatError> {
    let mut table = Table::open(file)?;
    let (columns, first) = match table.next()? {
        None => return Err(FormatError::convert(file, format!("the file is empty, expected {EXPECTED}"))),
        Some((line, row)) => match Columns::of(&row) {
            Ok(Some(columns)) => (columns, None),
            Ok(None) => (Columns::unnamed(), Some((line, row))),
            Err(reason) => return Err(FormatError::convert(file, format!("line {line}: {reason}"))),
        },
    };
    let root = match &options.images {
        Some(images) => images.clone(),
        None => match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        },
    };
    let look_up = options.images.is_some() || columns.size.is_none();
    let images = look_up.then(|| Images::new(&root));
    let mut reader = Reader {
        file,
        columns,
        images,
        draft: Draft::default(),
        rows: HashMap::new(),
        lost: HashMap::new(),
        above_one: false,
    };
    for column in &reader.columns.others {
        reader.draft.notes.add(Kind::Column, || column.clone());
    }
    if let Some((line, row)) = first {
        reader.row(line, &row);
    }
    while let Some((line, row)) = table.next()? {
        reader.row(line, &row);
    }
    if !reader.above_one && reader.draft.images.iter().any(|image| !image.objects.is_empty()) {
        let reason = "all coordinates are from 0 to 1, so that they look like fractions of the images; expected pixels";
        return Err(FormatError::convert(file, reason));
    }
    reader.draft.defects.lost(reader.lost.into_values());
    let classes = ClassList::of(options.classes.as_deref(), Vec::new());
    let converted = reader.draft.finish(file, EXPECTED, classes, options.on_error)?;
    Ok(Converted { images: look_up.then_some(root), ..converted })
}

/// A table that is being read.
struct Reader<'a> {
    file: &'a Path,
    columns: Columns,
    /// The folder of the images, if they are looked up.
    images: Option<Images>,
    draft: Draft,
    /// The index of each image by the path in its rows; `None` if it cannot be used.
    rows: HashMap<String, Option<usize>>,
    /// The number of objects of each image that cannot be used, by the path in its rows.
    lost: HashMap<String, usize>,
    /// Whether there is a coordinate above 1.
    above_one: bool,
}

impl Reader<'_> {
    fn row(&mut self, line: u64, row: &Row) {
        if let Err(reason) = self.read(line, row) {
            self.draft.defects.add(Defect::at(self.file, line, reason));
        }
    }

    fn read(&mut self, line: u64, row: &Row) -> Result<(), String> {
        let columns = &self.columns;
        if row.len() != columns.count {
            return Err(format!("found {} fields, expected {}", row.len(), columns.count));
        }
        let path = row[columns.path].to_owned();
        if path.trim().is_empty() {
            return Err("the path of the image is empty, expected a file name".to_owned());
        }
        let index = self.image(&path, row);
        let columns = &self.columns;
        let no_box = columns.numbers.iter().all(|(index, _)| row[*index].trim().is_empty());
        if self.rows.get(&path).is_some_and(Option::is_none) {
            *self.lost.entry(path).or_default() += usize::from(!no_box);
        }
        let Some(index) = index? else { return Ok(()) };
        let class = &row[columns.class];
        if no_box {
            if class.trim().is_empty() {
                return Ok(());
            }
            return Err(format!("the class is {class:?} and the box is empty; expected both or none of them"));
        }
        if class.trim().is_empty() {
            return Err("the class is empty, expected its name".to_owned());
        }
        let mut values = [0.0; 4];
        for (value, (index, name)) in values.iter_mut().zip(&columns.numbers) {
            *value = number(&row[*index], name)?;
        }
        let [x, y, a, b] = values;
        let corners = match columns.form {
            Form::Corners => values,
            Form::Sides => [x, y, x + a, y + b],
        };
        self.above_one |= corners.iter().any(|edge| *edge > 1.0);
        for (index, name) in &columns.flags {
            self.draft.notes.fields(name, usize::from(is_set(&row[*index])));
        }
        let crowd = columns.crowd.is_some_and(|index| is_set(&row[index]));
        let object = DraftObject { label: self.draft.label(class), corners, crowd, place: Place::Line(line) };
        self.draft.images[index].objects.push(object);
        Ok(())
    }

    /// The index of the image of a row; `None` if it cannot be used, which the first of its rows has said.
    fn image(&mut self, path: &str, row: &Row) -> Result<Option<usize>, String> {
        let size_of_row = self.size_of_row(row);
        if let Some(known) = self.rows.get(path) {
            if let (Some(index), Some(size)) = (*known, size_of_row?)
                && self.draft.images[index].size != size
            {
                let (width, height) = self.draft.images[index].size;
                let (other_width, other_height) = size;
                return Err(format!(
                    "the size of {path:?} is {other_width}x{other_height}, expected {width}x{height} as in an earlier row"
                ));
            }
            return Ok(*known);
        }
        let found = size_of_row.and_then(|size| self.locate(path, size));
        let index = found.as_ref().ok().map(|_| self.draft.images.len());
        self.rows.insert(path.to_owned(), index);
        let (name, size) = found?;
        self.draft.images.push(DraftImage { name, size, from: self.file.to_owned(), objects: Vec::new() });
        Ok(index)
    }

    fn size_of_row(&self, row: &Row) -> Result<Option<(u32, u32)>, String> {
        let Some([width, height]) = &self.columns.size else { return Ok(None) };
        let side = |(index, name): &(usize, String)| {
            let field = row[*index].trim();
            // Tables that passed through pandas have whole numbers such as 640.0.
            let side = field.parse::<f64>().ok().filter(|side| side.fract() == 0.0 && (1.0..=1e9).contains(side));
            side.map(|side| side as u32).ok_or_else(|| format!("`{name}` is {field:?}, expected a number of pixels"))
        };
        Ok(Some((side(width)?, side(height)?)))
    }

    /// The name and size of an image.
    fn locate(&mut self, path: &str, known: Option<(u32, u32)>) -> Result<(String, (u32, u32)), String> {
        let name = match &mut self.images {
            None => return known.map(|size| (path.to_owned(), size)).ok_or_else(|| "has no size".to_owned()),
            Some(images) => {
                let found = images.find(path)?;
                match found.way {
                    Way::Exact => {}
                    Way::Spelling => self.draft.notes.add(Kind::Spelling, || path.to_owned()),
                    Way::LastPart => self.draft.notes.add(Kind::LastPart, || path.to_owned()),
                }
                found
            }
        };
        let size = match known {
            Some(size) => size,
            None => size(&name.path)?,
        };
        Ok((name.name, size))
    }
}
