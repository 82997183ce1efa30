//! Export to Pascal VOC.

use std::path::Path;

use super::source::{Picture, Source, decimal};
use super::xml::{escaped, reason};
use super::{ExportOptions, Exported, tree};
use crate::FormatError;
use crate::defect::Defect;
use crate::images::inside;
use crate::notes::Kind;

/// Exports COCO annotations to a Pascal VOC folder: `Annotations/NAME.xml`, `ImageSets/Main/SPLIT.txt`, and the images
/// in `JPEGImages` if [`ExportOptions::images`] gives their folder.
///
/// `xmin`, `ymin`, `xmax` and `ymax` are the edges of the box in pixels from the left and upper edge of the image, with
/// decimals where the edge is not at a whole number; [`convert_voc`](crate::convert_voc) reads them so. Crowd regions
/// are marked difficult.
///
/// # Errors
/// - the errors of reading the annotations
/// - [`FormatError::Convert`] if one of the folders `Annotations` and `JPEGImages` is not empty
/// - [`FormatError::Listed`] with the first defects if [`ExportOptions::on_error`] is `Fail` and there are images
///   without a size, names that leave the folder or that XML cannot contain, or two images with the same annotation
///   file
/// - [`FormatError::Io`] or [`FormatError::Write`] if a file cannot be written
pub fn export_voc(file: &Path, out: &Path, split: &str, options: &ExportOptions) -> Result<Exported, FormatError> {
    if inside(split).as_deref() != Some(split) || split.contains('/') {
        return Err(FormatError::convert(file, format!("the split is {split:?}, expected a name such as train")));
    }
    let mut source = Source::read(file, options, true)?;
    source.once(file, tree::stem);
    let names = class_names(&source.classes).map_err(|reason| FormatError::convert(file, reason))?;
    for class in source.classes.iter().filter(|class| class.trim() != class.as_str()) {
        source.notes.add(Kind::Trimmed, || format!("{class:?}"));
    }
    let mut texts = Vec::with_capacity(source.pictures.len());
    let defects = &mut source.defects;
    source.pictures.retain(|picture| match text(picture, &names) {
        Ok(text) => {
            texts.push(text);
            true
        }
        Err(reason) => {
            defects.add(Defect::of(file, format!("image {}: {reason}", picture.id)));
            false
        }
    });
    source.check(file, options)?;
    source.note_unused_classes();
    let [annotations, images] = ["Annotations", "JPEGImages"].map(|folder| out.join(folder));
    tree::is_new(&annotations)?;
    tree::is_new(&images)?;
    tree::create(&annotations)?;
    let mut list = String::new();
    for (picture, text) in source.pictures.iter().zip(&texts) {
        for object in picture.objects.iter().filter(|object| object.crowd) {
            source.notes.add(Kind::Difficult, || format!("{}: {:?}", picture.name, object.corners));
        }
        tree::write_new(&tree::beside(&annotations, &picture.name, "xml"), text.as_bytes())?;
        list += &tree::stem(&picture.name);
        list.push('\n');
    }
    tree::write(&out.join("ImageSets/Main").join(format!("{split}.txt")), list.as_bytes())?;
    let placed = tree::place(&images, &source.pictures, options.placement)?;
    Ok(source.exported(placed))
}

/// The names of the classes, escaped for XML.
pub(super) fn class_names(classes: &[String]) -> Result<Vec<String>, String> {
    classes.iter().map(|class| escaped(class).map_err(|c| reason("the class", class, c))).collect()
}

/// The annotation file of an image.
fn text(picture: &Picture, names: &[String]) -> Result<String, String> {
    let stem = tree::stem(&picture.name);
    if stem.contains(['\n', '\r']) || stem.trim() != stem {
        return Err(format!(
            "the name {:?} has a line break or a space at its end, expected none, because the list has one name a line",
            picture.name
        ));
    }
    let name = picture.name.rsplit('/').next().unwrap_or_default();
    let name = escaped(name).map_err(|c| reason("the name", name, c))?;
    let (width, height) = picture.size;
    let mut text = format!(
        "<annotation>\n\t<filename>{name}</filename>\n\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t\
         <depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n"
    );
    for object in &picture.objects {
        let [x1, y1, x2, y2] = object.corners.map(decimal);
        let (class, difficult) = (&names[object.class], u8::from(object.crowd));
        text += &format!(
            "\t<object>\n\t\t<name>{class}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t\
             <difficult>{difficult}</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{x1}</xmin>\n\t\t\t<ymin>{y1}</ymin>\n\t\t\t\
             <xmax>{x2}</xmax>\n\t\t\t<ymax>{y2}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        );
    }
    text += "</annotation>\n";
    Ok(text)
}
