//! The annotations of an export: images with their objects, and the names of the classes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use foveal_coco::Category;

use super::{ExportOptions, Exported};
use crate::FormatError;
use crate::coco::Loaded;
use crate::defect::{Defect, Defects};
use crate::images::{Images, inside, size};
use crate::notes::{Kind, Notes};

/// An image with its objects.
pub(super) struct Picture {
    /// Id of the image in the annotations.
    pub id: i64,
    /// Name of the file relative to the folder of images, with `/` between its parts.
    pub name: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The file of the image, if the folder of images is known.
    pub path: Option<PathBuf>,
    pub objects: Vec<Object>,
}

/// An object.
pub(super) struct Object {
    /// Index of the class.
    pub class: usize,
    /// Left, top, right and bottom edge in pixels.
    pub corners: [f64; 4],
    pub crowd: bool,
}

/// The annotations of an export.
pub(super) struct Source {
    pub pictures: Vec<Picture>,
    /// Names of the classes in ascending order of their ids.
    pub classes: Vec<String>,
    pub notes: Notes,
    pub defects: Defects,
}

impl Source {
    /// Reads the annotations. Crowd regions are left out with a note if `crowds` is false.
    ///
    /// # Errors
    /// The errors of the reader, and [`FormatError::Convert`] for a file without images or classes.
    pub(super) fn read(file: &Path, options: &ExportOptions, crowds: bool) -> Result<Self, FormatError> {
        let mut read = Loaded::read(file)?;
        read.renumber();
        let Loaded { dataset, mut notes, mut defects } = read;
        let mut categories: Vec<&Category> = dataset.categories.iter().collect();
        categories.sort_by_key(|category| category.id);
        for category in &categories {
            if let Some(group) = &category.supercategory {
                notes.add(Kind::Supercategory, || format!("{group:?}"));
            }
        }
        let running = |ids: &mut dyn Iterator<Item = i64>| (1..).zip(ids).find(|(running, id)| running != id);
        let other = [
            ("image", running(&mut dataset.images.iter().map(|image| image.id))),
            ("annotation", running(&mut dataset.annotations.iter().map(|annotation| annotation.id))),
            ("category", running(&mut dataset.categories.iter().map(|category| category.id))),
        ];
        for (what, id) in other {
            if let Some((_, id)) = id {
                notes.add(Kind::Ids, || format!("{what} {id}"));
            }
        }
        let classes: HashMap<i64, usize> =
            categories.iter().enumerate().map(|(class, category)| (category.id, class)).collect();
        let mut objects: HashMap<i64, Vec<Object>> = HashMap::new();
        for annotation in &dataset.annotations {
            let [x, y, width, height] = annotation.bbox;
            if annotation.iscrowd && !crowds {
                notes.add(Kind::ExportedCrowd, || format!("annotation {}", annotation.id));
                continue;
            }
            // COCO's areas are those of masks, rounded boxes or boxes.
            if (annotation.area - width * height).abs() > 0.01 * (width * height).max(1.0) {
                notes.add(Kind::Area, || format!("annotation {}", annotation.id));
            }
            // The reader has checked that the category is known.
            let Some(class) = classes.get(&annotation.category_id) else { continue };
            let corners = [x, y, x + width, y + height];
            let object = Object { class: *class, corners, crowd: annotation.iscrowd };
            objects.entry(annotation.image_id).or_default().push(object);
        }
        let mut images = options.images.as_deref().map(Images::new);
        let mut pictures = Vec::with_capacity(dataset.images.len());
        for image in &dataset.images {
            match locate(&image.file_name, (image.width, image.height), images.as_mut()) {
                Ok((name, size, path)) => {
                    let objects = objects.remove(&image.id).unwrap_or_default();
                    pictures.push(Picture { id: image.id, name, size, path, objects });
                }
                Err(reason) => {
                    let lost = objects.get(&image.id).map_or(0, Vec::len);
                    defects.add_image(Defect::of(file, format!("image {}: {reason}", image.id)), lost);
                }
            }
        }
        let classes: Vec<String> = categories.iter().map(|category| category.name.clone()).collect();
        if dataset.images.is_empty() || classes.is_empty() {
            let what = if dataset.images.is_empty() { "images" } else { "categories" };
            return Err(FormatError::convert(
                file,
                format!("found no {what}, expected a COCO annotation file with some"),
            ));
        }
        Ok(Self { pictures, classes, notes, defects })
    }

    /// Notes the classes that no written object has, for formats that have no list of classes.
    pub(super) fn note_unused_classes(&mut self) {
        let used: HashSet<usize> =
            self.pictures.iter().flat_map(|picture| &picture.objects).map(|object| object.class).collect();
        for (class, name) in self.classes.iter().enumerate().filter(|(class, _)| !used.contains(class)) {
            self.notes.add(Kind::ClassWithoutObjects, || format!("{name:?}, the class number {}", class + 1));
        }
    }

    /// Removes the images whose files would have the same name, apart from what `key` makes equal; all but the first
    /// are defects.
    pub(super) fn once(&mut self, file: &Path, key: impl Fn(&str) -> String) {
        let mut seen: HashMap<String, String> = HashMap::new();
        let defects = &mut self.defects;
        self.pictures.retain(|picture| match seen.insert(key(&picture.name), picture.name.clone()) {
            None => true,
            Some(first) => {
                let reason = format!(
                    "image {}: {:?} and {first:?} would have the same annotation file; expected other names",
                    picture.id, picture.name
                );
                defects.add_image(Defect::of(file, reason), picture.objects.len());
                false
            }
        });
    }

    /// Ends the defects, before anything is written.
    ///
    /// # Errors
    /// [`FormatError::Listed`] if there are defects and `on_error` is `Fail`.
    pub(super) fn check(&mut self, file: &Path, options: &ExportOptions) -> Result<(), FormatError> {
        let found = std::mem::take(&mut self.defects).finish(file, options.on_error)?;
        self.notes.left_out(found);
        Ok(())
    }

    /// Ends the export.
    pub(super) fn exported(&self, placed: usize) -> Exported {
        Exported {
            images: self.pictures.len(),
            objects: self.pictures.iter().map(|picture| picture.objects.len()).sum(),
            classes: self.classes.len(),
            placed,
            notes: self.notes.sentences(),
        }
    }
}

/// What is known of an image: its name, its size, and its file.
type Located = (String, (u32, u32), Option<PathBuf>);

fn locate(name: &str, known: (u32, u32), images: Option<&mut Images>) -> Result<Located, String> {
    let path = match images {
        Some(images) => Some(images.find(name)?.path),
        None => None,
    };
    let size = match (known, &path) {
        ((width, height), _) if width > 0 && height > 0 => known,
        (_, Some(path)) => size(path)?,
        _ => return Err("has no width and height, expected both, or the folder of the images (--images)".to_owned()),
    };
    let inside = inside(name);
    let name = inside.ok_or_else(|| format!("found the file name {name:?}, expected a path that stays in a folder"))?;
    Ok((name, size, path))
}

/// A number with at most three decimals, a thousandth of a pixel.
pub(super) fn decimal(number: f64) -> String {
    const STEPS: f64 = 1000.0;
    let rounded = (number * STEPS).round() / STEPS;
    // Without a minus sign before zero.
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_as_short_as_they_can_be() {
        for (number, text) in [
            (5.0, "5"),
            (-0.0, "0"),
            (-0.0001, "0"),
            (1.25, "1.25"),
            (1.0 / 3.0, "0.333"),
            (65535.9996, "65536"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000"),
        ] {
            assert_eq!(decimal(number), text);
        }
    }
}
