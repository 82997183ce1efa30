//! The file names of images of several data sets, which may be in different folders.

use std::path::{Component, Path, PathBuf};

use crate::{SetFile, SetsError};

/// What becomes of the file names of the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileNames {
    /// They stay as they are: all images are in one folder.
    #[default]
    Kept,
    /// A text for each file is put before them, such as `day/`.
    Prefixed(Vec<String>),
    /// The images of each file are in a folder of their own. The names become relative to the innermost folder that
    /// contains all of these.
    Folders(Vec<PathBuf>),
}

/// The new file names of the images of each file, and the folder that they are relative to if it is known.
///
/// # Errors
/// [`SetsError::Option`] if the number of folders or prefixes is not that of the files; [`SetsError::Io`] if the
/// current folder cannot be found out.
pub(super) fn changed(inputs: &[SetFile], rule: &FileNames) -> Result<(Vec<Vec<String>>, Option<PathBuf>), SetsError> {
    let count = |option: &'static str, what: &str, found: usize| {
        if found == inputs.len() {
            return Ok(());
        }
        let (expected, found) = (format!("{} {what}, one for each file", inputs.len()), found.to_string());
        Err(SetsError::Option { option, expected, found })
    };
    let all = |change: &dyn Fn(usize, &str) -> String| {
        let of_set = |(index, set): (usize, &SetFile)| {
            // An image without a file name stays without one.
            let name = |name: &str| if name.is_empty() { String::new() } else { change(index, name) };
            set.dataset.images.iter().map(|image| name(&image.record.file_name)).collect()
        };
        inputs.iter().enumerate().map(of_set).collect::<Vec<Vec<String>>>()
    };
    match rule {
        FileNames::Kept => Ok((all(&|_, name| name.to_owned()), None)),
        FileNames::Prefixed(prefixes) => {
            count("--prefix", "texts", prefixes.len())?;
            Ok((all(&|index, name| format!("{}{name}", prefixes[index])), None))
        }
        FileNames::Folders(folders) => {
            count("--images", "folders", folders.len())?;
            let absolute = |folder: &PathBuf| {
                let path = std::path::absolute(folder);
                path.map(|path| plain(&path)).map_err(|source| SetsError::Io {
                    what: "find the folder",
                    path: folder.clone(),
                    source,
                })
            };
            let folders: Vec<PathBuf> = folders.iter().map(absolute).collect::<Result<_, SetsError>>()?;
            let common = common(&folders);
            let relative = |index: usize, name: &str| {
                let path = plain(&folders[index].join(name));
                text(path.strip_prefix(&common).unwrap_or(&path))
            };
            Ok((all(&relative), Some(common)))
        }
    }
}

/// The file name in the form in which equal names are the same file: without the components `.` and `..`, as far as
/// these can be left out.
pub(super) fn normal(name: &str) -> String {
    text(&plain(Path::new(name)))
}

/// A path without the components `.` and, where a folder is before them, `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// A path with `/` between its components, which all systems understand.
fn text(path: &Path) -> String {
    if std::path::MAIN_SEPARATOR == '/' {
        return path.to_string_lossy().into_owned();
    }
    path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/")
}

/// The innermost folder that contains all folders.
fn common(folders: &[PathBuf]) -> PathBuf {
    let Some((first, rest)) = folders.split_first() else { return PathBuf::new() };
    let holds = |folder: &&Path| rest.iter().all(|other| other.starts_with(folder));
    first.ancestors().find(holds).unwrap_or(Path::new("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_innermost_common_folder() {
        assert_eq!(normal("./a/../b//c.jpg"), "b/c.jpg");
        assert_eq!(normal("../x.jpg"), "../x.jpg");
        let folders = |names: &[&str]| common(&names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(folders(&["/d/day/images", "/d/night"]), Path::new("/d"));
        assert_eq!(folders(&["/d/a", "/d/a"]), Path::new("/d/a"));
        assert_eq!(folders(&["/d/a", "/d/ab"]), Path::new("/d"));
    }
}
