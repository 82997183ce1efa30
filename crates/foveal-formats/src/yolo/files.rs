//! The images of a YOLO data set and their label files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foveal_base::text::read_data_text;

use super::config::Config;
use crate::FormatError;
use crate::defect::{Defect, Defects};
use crate::images::{entries_below, has_extension, is_image_name};
use crate::notes::{Kind, Notes};

/// Names of text files among the labels that are no labels.
const NO_LABELS: [&str; 4] = ["classes.txt", "obj.names", "predefined_classes.txt", "readme.txt"];

/// The images of a data set and where their labels are.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The images with the paths of their label files, which need not exist.
    pub images: Vec<(PathBuf, PathBuf)>,
    /// The folder that the names of the images are relative to.
    pub root: PathBuf,
    /// Folders whose label files all belong to images.
    pub labels: BTreeSet<PathBuf>,
}

impl Files {
    /// The images in a folder and the label files in another one, with the same names.
    pub(super) fn of_folders(images: &Path, labels: &Path) -> Result<Self, FormatError> {
        let mut files = Self { root: images.to_owned(), ..Self::default() };
        for path in entries_below(images, is_image_name)? {
            let name = path.strip_prefix(images).unwrap_or(&path);
            let label = labels.join(name).with_extension("txt");
            files.images.push((path, label));
        }
        files.labels.insert(labels.to_owned());
        Ok(files)
    }

    /// The images of a split of data.yaml. The labels of `images/a.jpg` are in `labels/a.txt`.
    pub(super) fn of_split(config: &Config, split: &str, defects: &mut Defects) -> Result<Self, FormatError> {
        let Some(entries) = config.split(split)? else {
            let known = config.splits().join(", ");
            let reason = format!("expected the key `{split}` with the images of the split; found {known}");
            return Err(FormatError::convert(&config.path, reason));
        };
        let mut files = Self::default();
        let mut roots: Vec<PathBuf> = Vec::new();
        for entry in &entries {
            let candidates = config.candidates(entry);
            let Some(path) = candidates.iter().find(|path| path.exists()) else {
                let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
                let reason = format!("`{split}`: found no {entry}; tried {}", tried.join(", "));
                return Err(FormatError::convert(&config.path, reason));
            };
            if path.is_dir() {
                roots.push(path.clone());
                for image in entries_below(path, is_image_name)? {
                    let label = label_of(&image);
                    files.images.push((image, label));
                }
                files.labels.extend(label_folder(path));
            } else {
                files.add_list(path, config, defects)?;
                roots.extend(path.parent().map(Path::to_owned));
            }
        }
        files.root = match roots.as_slice() {
            [only] if files.images.iter().all(|(image, _)| image.starts_with(only)) => only.clone(),
            _ => common_folder(files.images.iter().map(|(image, _)| image.as_path())),
        };
        Ok(files)
    }

    /// Adds the images that a list file names, one a line.
    fn add_list(&mut self, list: &Path, config: &Config, defects: &mut Defects) -> Result<(), FormatError> {
        let text =
            read_data_text(list).map_err(|error| FormatError::convert(list, format!("cannot be read: {error}")))?;
        let parent = list.parent().unwrap_or(Path::new(""));
        for (line, name) in (1..).zip(text.lines()) {
            let name = name.trim().replace('\\', "/");
            if name.is_empty() {
                continue;
            }
            let plain = name.strip_prefix("./").unwrap_or(&name);
            // Lists for Darknet, such as those of CVAT, have paths relative to the folder that contains `data`.
            let mut candidates = Vec::new();
            for name in [Some(plain), plain.strip_prefix("data/")].into_iter().flatten() {
                candidates.push(parent.join(name));
                candidates.extend(config.candidates(name));
            }
            match candidates.iter().find(|path| path.is_file()) {
                Some(image) => self.images.push((image.clone(), label_of(image))),
                None => defects.add(Defect::at(
                    list,
                    line,
                    format!("found no image {name}, expected a path relative to {}", parent.display()),
                )),
            }
        }
        Ok(())
    }

    /// Finds the label files that belong to no image. Programs for YOLO begin with the images and never read these
    /// files, which remain when images are deleted. If they are more than half of the label files, the folder is
    /// probably that of other images, and they are defects.
    pub(super) fn find_orphans(&self, notes: &mut Notes, defects: &mut Defects) -> Result<(), FormatError> {
        /// Number of files that the note names.
        const NAMED: usize = 3;
        let used: BTreeSet<&Path> = self.images.iter().map(|(_, label)| label.as_path()).collect();
        let (mut orphans, mut count) = (Vec::new(), 0);
        for folder in self.labels.iter().filter(|folder| folder.is_dir()) {
            for path in entries_below(folder, |path| has_extension(path, "txt"))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
                if NO_LABELS.contains(&name.as_str()) {
                    continue;
                }
                count += 1;
                if !used.contains(path.as_path()) {
                    orphans.push(path);
                }
            }
        }
        if orphans.len() * 2 > count {
            let of = format!("{} of {count} label files have none", orphans.len());
            for path in &orphans {
                let reason = format!("found no image of these labels, expected one of the same name ({of})");
                defects.add(Defect::of(path, reason));
            }
        } else if !orphans.is_empty() {
            let named: Vec<String> = orphans.iter().take(NAMED).map(|path| path.display().to_string()).collect();
            notes.several(Kind::NoImage, orphans.len(), named.join(", "));
        }
        Ok(())
    }
}

/// The label file of an image: the last folder `images` of its path is replaced by `labels`.
pub(super) fn label_of(image: &Path) -> PathBuf {
    let folder = image.parent().unwrap_or(Path::new(""));
    let name = image.file_name().unwrap_or_default();
    label_folder(folder).unwrap_or_else(|| folder.to_owned()).join(name).with_extension("txt")
}

/// The folder of the labels of a folder of images, if its path has a folder `images`.
fn label_folder(images: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = images.components().collect();
    let last = parts.iter().rposition(|part| part.as_os_str() == "images")?;
    let parts = parts.iter().enumerate();
    Some(parts.map(|(at, part)| if at == last { "labels".as_ref() } else { part.as_os_str() }).collect())
}

/// The folder that contains all files.
fn common_folder<'a>(mut paths: impl Iterator<Item = &'a Path>) -> PathBuf {
    let mut common = paths.next().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    for path in paths {
        while !path.starts_with(&common) {
            if !common.pop() {
                return common;
            }
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_folder_images_is_that_of_the_labels() {
        for (image, label) in [
            ("images/train/a.b.jpg", "labels/train/a.b.txt"),
            ("/x/images/y/images/a.jpg", "/x/images/y/labels/a.txt"),
            ("x/my images/a.jpg", "x/my images/a.txt"),
        ] {
            assert_eq!(label_of(Path::new(image)), Path::new(label));
        }
        let paths = ["a/b/1.jpg", "a/c/2.jpg"];
        assert_eq!(common_folder(paths.iter().map(Path::new)), Path::new("a"));
    }
}
