//! Conversion of annotations in other formats to COCO: Pascal VOC.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foveal_coco::{Annotation, Category, CocoDataset, Image};
use foveal_image::oriented_size;

use crate::DataError;

/// Options of [`convert_voc`]: which images and classes of a Pascal VOC folder are converted.
#[derive(Clone, Debug, Default)]
pub struct VocOptions {
    /// Name of a split. Only the images listed in `ImageSets/Main/<split>.txt` are converted. `None` converts all files
    /// of `Annotations`.
    pub split: Option<String>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes all names in `Annotations`,
    /// sorted.
    pub classes: Option<Vec<String>>,
}

/// The result of [`convert_voc`]: a data set in COCO format.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The data set. [`CocoDataset::write`] writes it to a file.
    pub dataset: CocoDataset,
    /// One message for each box that was left out, with its file, class and coordinates.
    pub notes: Vec<String>,
}

/// Converts a Pascal VOC folder (`Annotations/*.xml`, `ImageSets/Main/*.txt`, `JPEGImages/`) to COCO.
///
/// Boxes become `[xmin, ymin, xmax - xmin, ymax - ymin]` in pixels. Boxes without area are left out and listed in
/// [`Converted::notes`]. The size of an image comes from its XML file, or from the image file if the XML file has none.
/// File names are relative to `JPEGImages`.
///
/// # Errors
/// - [`DataError::Io`] for a folder or text file that cannot be read
/// - [`DataError::Convert`] for a damaged XML file, a missing image, a class that is not in [`VocOptions::classes`], or
///   a folder without images or classes
/// - [`DataError::Image`] for an image whose size cannot be read
pub fn convert_voc(folder: &Path, options: &VocOptions) -> Result<Converted, DataError> {
    let annotations = folder.join("Annotations");
    let stems = match &options.split {
        Some(split) => split_stems(&folder.join("ImageSets/Main").join(format!("{split}.txt")))?,
        None => all_stems(&annotations)?,
    };
    let classes = match &options.classes {
        Some(classes) => classes.clone(),
        None => all_classes(&annotations)?,
    };
    if stems.is_empty() || classes.is_empty() {
        let what = if stems.is_empty() { "annotated images" } else { "classes" };
        return Err(DataError::Convert {
            path: folder.to_owned(),
            reason: format!("found no {what}, expected a Pascal VOC folder"),
        });
    }
    let mut converted = Converted { dataset: CocoDataset::default(), notes: Vec::new() };
    let categories = (1..).zip(&classes).map(|(id, name)| Category { id, name: name.clone(), supercategory: None });
    converted.dataset.categories = categories.collect();
    for (image_id, stem) in (1..).zip(stems) {
        add(&mut converted, folder, &annotations.join(format!("{stem}.xml")), &stem, image_id)?;
    }
    Ok(converted)
}

/// Converts the annotation file of one image.
fn add(converted: &mut Converted, folder: &Path, path: &Path, stem: &str, image_id: i64) -> Result<(), DataError> {
    let voc = read(path)?;
    // The file name in the XML file sometimes has another extension or folder than the image.
    let inside = voc.file_name.as_deref().and_then(|name| Path::new(name).file_name()).map(PathBuf::from);
    let images = folder.join("JPEGImages");
    let candidates =
        ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG", "bmp", "webp"].map(|e| PathBuf::from(format!("{stem}.{e}")));
    let file_name = inside.into_iter().chain(candidates).find(|name| images.join(name).is_file());
    let file_name = file_name.ok_or_else(|| DataError::Convert {
        path: path.to_owned(),
        reason: format!("found no image {stem} (.jpg, .png, .bmp or .webp) in {}", images.display()),
    })?;
    let (width, height) = match voc.size {
        Some(size) => size,
        None => oriented_size(&images.join(&file_name)).map_err(|source| DataError::Image { image_id, source })?,
    };
    let dataset = &mut converted.dataset;
    let file_name = file_name.to_string_lossy().into_owned();
    for object in voc.objects {
        let VocObject { name, corners: [x1, y1, x2, y2] } = object;
        let category = dataset.categories.iter().find(|c| c.name == name).ok_or_else(|| {
            let known: Vec<&str> = dataset.categories.iter().map(|c| c.name.as_str()).collect();
            DataError::Convert {
                path: path.to_owned(),
                reason: format!("found an object of class {name:?}, expected one of {}", known.join(", ")),
            }
        })?;
        let bbox = [x1, y1, x2 - x1, y2 - y1];
        if bbox[2] <= 0.0 || bbox[3] <= 0.0 {
            let corners = format!("[{x1}, {y1}, {x2}, {y2}]");
            converted.notes.push(format!("{}: left out {name:?} {corners}, whose box has no area", path.display()));
            continue;
        }
        dataset.annotations.push(Annotation {
            id: dataset.annotations.len() as i64 + 1,
            image_id,
            category_id: category.id,
            bbox,
            area: bbox[2] * bbox[3],
            iscrowd: false,
        });
    }
    dataset.images.push(Image { id: image_id, file_name, width, height });
    Ok(())
}

/// The contents of an annotation file.
struct VocFile {
    file_name: Option<String>,
    size: Option<(u32, u32)>,
    objects: Vec<VocObject>,
}

/// An object of an annotation file.
struct VocObject {
    name: String,
    /// `xmin`, `ymin`, `xmax`, `ymax` in pixels.
    corners: [f64; 4],
}

/// Reads a text file.
fn text(path: &Path) -> Result<String, DataError> {
    std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

/// Reads an annotation file.
fn read(path: &Path) -> Result<VocFile, DataError> {
    let wrong = |reason: String| DataError::Convert { path: path.to_owned(), reason };
    let text = text(path)?;
    let document = roxmltree::Document::parse(&text).map_err(|e| wrong(e.to_string()))?;
    let root = document.root_element();
    let child = |node: roxmltree::Node<'_, '_>, name: &str| {
        let found = node.children().find(|n| n.has_tag_name(name));
        found.and_then(|n| n.text()).map(|t| t.trim().to_owned())
    };
    let number = |node, name: &str| -> Result<f64, DataError> {
        let value = child(node, name).ok_or_else(|| wrong(format!("a <bndbox> has no <{name}>, expected a number")))?;
        let parsed = value.parse::<f64>().ok().filter(|v| v.is_finite());
        parsed.ok_or_else(|| wrong(format!("<{name}> is {value:?}, expected a number")))
    };
    let size = root.children().find(|n| n.has_tag_name("size")).and_then(|size| {
        let side = |name| child(size, name)?.parse::<u32>().ok().filter(|side| *side > 0);
        Some((side("width")?, side("height")?))
    });
    let mut objects = Vec::new();
    for node in root.children().filter(|n| n.has_tag_name("object")) {
        let name = child(node, "name")
            .ok_or_else(|| wrong("an <object> has no <name>, expected the name of its class".to_owned()))?;
        let bndbox = node.children().find(|n| n.has_tag_name("bndbox"));
        let bndbox =
            bndbox.ok_or_else(|| wrong(format!("an <object> of class {name:?} has no <bndbox>, expected its box")))?;
        let corners =
            [number(bndbox, "xmin")?, number(bndbox, "ymin")?, number(bndbox, "xmax")?, number(bndbox, "ymax")?];
        objects.push(VocObject { name, corners });
    }
    Ok(VocFile { file_name: child(root, "filename"), size, objects })
}

/// The first word of each line of a split file. A second word would be a flag that VOC uses in files for one class.
fn split_stems(path: &Path) -> Result<Vec<String>, DataError> {
    Ok(text(path)?.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// The names of all annotation files without extension, sorted.
fn all_stems(annotations: &Path) -> Result<Vec<String>, DataError> {
    let error = |source| DataError::Io { path: annotations.to_owned(), source };
    let mut stems = Vec::new();
    for entry in std::fs::read_dir(annotations).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml")) {
            stems.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    stems.sort();
    Ok(stems)
}

/// The names of all classes in the annotation files, sorted.
fn all_classes(annotations: &Path) -> Result<Vec<String>, DataError> {
    let mut names = BTreeSet::new();
    for stem in all_stems(annotations)? {
        names.extend(read(&annotations.join(format!("{stem}.xml")))?.objects.into_iter().map(|o| o.name));
    }
    Ok(names.into_iter().collect())
}
