//! The image files of a data set: found by the names in the annotation file, also if another system wrote them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use foveal_base::names::{Folder, Found, list};
use foveal_coco::Image;
use rayon::prelude::*;

use crate::{CheckReport, Problem};

/// The path of an image file.
pub(crate) struct Located {
    /// The path that the name of the image means, or that it has as it stands if there is no such file.
    pub path: PathBuf,
    /// If there is no such file: what exists in its place, for the message.
    pub hint: Option<String>,
}

/// Finds the file of each image. A name that differs from that of the file in case, composed letters, separators or
/// percent-encoding is accepted, with a note in the report, if exactly one file has it and no other image means it.
pub(crate) fn locate(folder: &Path, images: &[Image], report: &mut CheckReport) -> Vec<Located> {
    let exact: Vec<(PathBuf, bool)> = images
        .par_iter()
        .map(|image| {
            let path = folder.join(&image.file_name);
            let exists = std::fs::metadata(&path).is_ok();
            (path, exists)
        })
        .collect();
    if exact.iter().all(|(_, exists)| *exists) {
        return exact.into_iter().map(|(path, _)| Located { path, hint: None }).collect();
    }
    let mut names = Folder::new(folder);
    let mut found: HashMap<usize, Found> = HashMap::new();
    for (index, image) in images.iter().enumerate().filter(|(index, _)| !exact[*index].1) {
        found.insert(index, names.find(&image.file_name));
    }
    // The images that mean a file which another image's name means only roughly.
    let mut alike: HashMap<&Path, Vec<i64>> = HashMap::new();
    for (index, image) in images.iter().enumerate() {
        if let Some(Found::Alike(path)) = found.get(&index) {
            alike.entry(path).or_default().push(image.id);
        }
    }
    for ((path, exists), image) in exact.iter().zip(images) {
        if let (true, Some(claims)) = (exists, alike.get_mut(path.as_path())) {
            claims.push(image.id);
        }
    }
    let mut located = Vec::with_capacity(images.len());
    for (index, image) in images.iter().enumerate() {
        let as_is = exact[index].0.clone();
        located.push(match found.get(&index) {
            None | Some(Found::Exact(_) | Found::Missing(None)) => Located { path: as_is, hint: None },
            Some(Found::Missing(Some(near))) => {
                Located { path: as_is, hint: Some(format!("there is {}", near.display())) }
            }
            Some(Found::Several(several)) => Located {
                path: as_is,
                hint: Some(format!("the name could mean {}, expected one file with exactly this name", list(several))),
            },
            Some(Found::Alike(path)) => match alike[path.as_path()].iter().find(|id| **id != image.id) {
                Some(other) => Located {
                    path: as_is,
                    hint: Some(format!(
                        "the name could mean {}, but image {other} means this file too; expected one file with \
                         exactly this name",
                        path.display()
                    )),
                },
                None => {
                    let text = format!("image {}: {:?} is read from {}", image.id, image.file_name, path.display());
                    report.add(Problem::OtherName, text);
                    Located { path: path.clone(), hint: None }
                }
            },
        });
    }
    located
}
