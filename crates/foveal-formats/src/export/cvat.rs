//! Export to "CVAT for images 1.1".

use std::path::Path;

use super::source::{Picture, Source, decimal};
use super::voc::class_names;
use super::xml::{escaped, reason};
use super::{ExportOptions, Exported, tree};
use crate::FormatError;
use crate::defect::Defect;

/// Exports COCO annotations to an XML file of CVAT ("CVAT for images 1.1"), which CVAT can upload to a task with the
/// same images. Crowd regions are left out.
///
/// # Errors
/// - the errors of reading the annotations
/// - [`FormatError::Listed`] with the first defects if [`ExportOptions::on_error`] is `Fail` and there are images
///   without a size, or names that XML cannot contain
/// - [`FormatError::Write`] if the file cannot be written
pub fn export_cvat(file: &Path, out: &Path, options: &ExportOptions) -> Result<Exported, FormatError> {
    let mut source = Source::read(file, options, false)?;
    source.once(file, str::to_owned);
    let names = class_names(&source.classes).map_err(|reason| FormatError::convert(file, reason))?;
    let mut images = String::new();
    let mut number = 0;
    let defects = &mut source.defects;
    source.pictures.retain(|picture| match image(number, picture, &names) {
        Ok(text) => {
            images += &text;
            number += 1;
            true
        }
        Err(reason) => {
            defects.add(Defect::of(file, format!("image {}: {reason}", picture.id)));
            false
        }
    });
    source.check(file, options)?;
    let labels: Vec<String> = names
        .iter()
        .map(|name| {
            format!("        <label>\n          <name>{name}</name>\n          <attributes/>\n        </label>\n")
        })
        .collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n      \
         <size>{number}</size>\n      <mode>annotation</mode>\n      <labels>\n{}      </labels>\n    </task>\n  \
         </meta>\n{images}</annotations>\n",
        labels.concat()
    );
    tree::write(out, text.as_bytes())?;
    Ok(source.exported(0))
}

/// The element of an image.
fn image(number: usize, picture: &Picture, names: &[String]) -> Result<String, String> {
    let name = escaped(&picture.name).map_err(|c| reason("the name", &picture.name, c))?;
    let (width, height) = picture.size;
    let mut text = format!("  <image id=\"{number}\" name=\"{name}\" width=\"{width}\" height=\"{height}\">\n");
    for object in &picture.objects {
        let [x1, y1, x2, y2] = object.corners.map(decimal);
        let class = &names[object.class];
        text += &format!(
            "    <box label=\"{class}\" occluded=\"0\" xtl=\"{x1}\" ytl=\"{y1}\" xbr=\"{x2}\" ybr=\"{y2}\" z_order=\"0\"/>\n"
        );
    }
    text += "  </image>\n";
    Ok(text)
}
