//! Export to a CSV file with one box in each row.

use std::path::Path;

use super::source::{Picture, Source, decimal};
use super::{ExportOptions, Exported, tree};
use crate::FormatError;
use crate::table::row::line;

/// The columns of a file with names, as TensorFlow's tools have them.
const NAMED: [&str; 8] = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"];

/// Exports COCO annotations to a CSV file with one box in each row.
///
/// With `names`, the first row has the names `filename,width,height,class,xmin,ymin,xmax,ymax`; without, a row is
/// `path,x1,y1,x2,y2,class`, as keras-retinanet reads it. An image without objects has one row with empty fields. Names
/// with commas, quotes or line breaks are quoted. Crowd regions are left out.
///
/// # Errors
/// - the errors of reading the annotations
/// - [`FormatError::Listed`] with the first defects if [`ExportOptions::on_error`] is `Fail` and there are images
///   without a size or with a name that leaves the folder
/// - [`FormatError::Write`] if the file cannot be written
pub fn export_csv(file: &Path, out: &Path, names: bool, options: &ExportOptions) -> Result<Exported, FormatError> {
    let mut source = Source::read(file, options, false)?;
    source.once(file, str::to_owned);
    source.check(file, options)?;
    source.note_unused_classes();
    let mut text = String::new();
    if names {
        text += &line(&NAMED);
    }
    for picture in &source.pictures {
        for row in rows(picture, &source.classes, names) {
            text += &line(&row);
        }
    }
    tree::write(out, text.as_bytes())?;
    Ok(source.exported(0))
}

/// The rows of an image.
fn rows(picture: &Picture, classes: &[String], names: bool) -> Vec<Vec<String>> {
    let (width, height) = picture.size;
    let row = |class: &str, corners: [String; 4]| {
        let mut row = vec![picture.name.clone()];
        if names {
            row.extend([width.to_string(), height.to_string(), class.to_owned()]);
        }
        row.extend(corners);
        if !names {
            row.push(class.to_owned());
        }
        row
    };
    if picture.objects.is_empty() {
        return vec![row("", Default::default())];
    }
    picture.objects.iter().map(|object| row(&classes[object.class], object.corners.map(decimal))).collect()
}
