//! Folders of background images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use foveal_coco::{Category, CocoDataset, Image, LabelMap};
use foveal_image::Format;
use rayon::prelude::*;

use super::sources::TrainSet;
use super::{Part, Parts};
use crate::dataset::{Dataset, ImageSource, Opened, Record};
use crate::{CheckReport, DataConfig, DataError, Problem};

/// Usual endings of the names of images in the formats that foveal reads, in lower case.
const ENDINGS: [&str; 7] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp"];

impl DataConfig {
    /// Opens a folder of images without objects. The images are those of the folder and its subfolders, in the order of
    /// their paths.
    ///
    /// # Errors
    /// [`DataError::NoFolder`] if the path is no folder, [`DataError::Io`] if it cannot be read,
    /// [`DataError::NoBackgrounds`] if it contains no image.
    pub(crate) fn open_backgrounds(&self, number: usize, labels: &LabelMap) -> Result<TrainSet, DataError> {
        let folder = &self.backgrounds[number];
        let key = format!("data.backgrounds[{number}]");
        if !folder.is_dir() {
            return Err(DataError::NoFolder { key, path: folder.clone() });
        }
        let files = images(folder)?;
        if files.is_empty() {
            return Err(DataError::NoBackgrounds { key, path: folder.clone() });
        }
        let mut report = CheckReport { set: folder.display().to_string(), ..CheckReport::default() };
        let limit = self.image_limit();
        let sizes: Vec<_> = files.par_iter().map(|path| limit.file_size(path)).collect();
        let (mut records, mut sources) = (Vec::new(), Vec::new());
        for ((image_id, path), size) in (1..).zip(files).zip(sizes) {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            match size {
                Ok(size) => {
                    let (width, height) = (size.width, size.height);
                    let (objects, crowds) = (Vec::new(), Vec::new());
                    records.push(Record { image_id, file_name: name, width, height, objects, crowds });
                    sources.push(ImageSource::File { path, stored: false });
                }
                Err(error) => report.skip(image_id, None, Problem::BrokenImage, format!("{name}: {error}")),
            }
        }
        report.count_records(&records);
        let image =
            |r: &Record| Image { id: r.image_id, file_name: r.file_name.clone(), width: r.width, height: r.height };
        let categories = labels.categories().iter();
        let category = |c: &foveal_coco::CategoryInfo| Category { id: c.id, name: c.name.clone(), supercategory: None };
        let coco = CocoDataset {
            images: records.iter().map(image).collect(),
            annotations: Vec::new(),
            categories: categories.map(category).collect(),
        };
        let labels = labels.clone();
        let dataset = Dataset { records, sources, labels, coco, limit, parts: Parts::default() };
        let part = Part { key, path: folder.display().to_string(), weight: 1.0, backgrounds: true };
        Ok(TrainSet { part, opened: Opened { dataset, report } })
    }
}

/// The images of a folder and its subfolders, in the order of their paths. Images are recognised by their content; a
/// file that has the ending of an image but not its content is one too, so that it is not passed over.
fn images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let (mut found, mut entered, mut waiting) = (Vec::new(), HashSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = waiting.pop() {
        let io = |source| DataError::Io { path: folder.clone(), source };
        // A link can lead back to a folder above it.
        if !entered.insert(folder.canonicalize().map_err(io)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            match std::fs::metadata(&path) {
                Ok(known) if known.is_dir() => waiting.push(path),
                Ok(known) if known.is_file() && (is_named_as_image(&path) || is_image(&path)) => found.push(path),
                Err(_) if is_named_as_image(&path) => found.push(path),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_image(path: &Path) -> bool {
    Format::of_file(path).is_ok_and(|format| format.is_some())
}

fn is_named_as_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending)))
}
