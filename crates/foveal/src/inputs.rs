//! The inputs of `foveal predict`: files, folders and glob patterns.

use crate::console::note;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use foveal_image::Format;

/// Usual file name extensions of the formats that foveal-image decodes.
const ENDINGS: [&str; 7] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp"];

/// The paths of the images that the inputs name, each once, in the order of the inputs. The images of a folder or of a
/// glob pattern are in the order of their names. What a folder contains besides images is counted in a warning.
///
/// # Errors
/// If an input does not exist, a folder contains no images, or a glob pattern is invalid or matches no file.
pub(crate) fn expand(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let named = if path.is_dir() {
            folder(path)?
        } else if path.exists() {
            vec![path.to_owned()]
        } else if input.contains(['*', '?', '[']) {
            matches(input)?
        } else {
            bail!("input {input} does not exist");
        };
        found.extend(named);
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

/// Whether the name of a file ends as those of images that foveal reads.
fn is_named_as_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending)))
}

/// What a folder contains besides images.
#[derive(Default)]
struct LeftOut {
    /// Number of files by the ending of their names, in small letters.
    files: BTreeMap<String, usize>,
    folders: usize,
    /// Pipes, sockets and devices.
    others: usize,
}

impl LeftOut {
    fn file(&mut self, path: &Path) {
        let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy().to_lowercase()));
        *self.files.entry(ending.unwrap_or_else(|| "without an ending".to_owned())).or_default() += 1;
    }

    /// Descriptions of what was left out, with the numbers of files of each ending. Empty if nothing was.
    fn parts(&self) -> Vec<String> {
        /// Number of endings that are listed.
        const LISTED: usize = 8;
        let plural = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let mut parts = Vec::new();
        let files: usize = self.files.values().sum();
        if files > 0 {
            let listed = self.files.iter().take(LISTED).map(|(ending, count)| format!("{count} {ending}"));
            let mut endings = listed.collect::<Vec<_>>().join(", ");
            if self.files.len() > LISTED {
                endings += ", …";
            }
            let text = plural(files, "file that is not", "files that are not");
            parts.push(format!("{text} a JPEG, PNG, WebP or BMP image ({endings})"));
        }
        if self.folders > 0 {
            parts.push(plural(self.folders, "subfolder, which was not entered", "subfolders, which were not entered"));
        }
        if self.others > 0 {
            parts.push(plural(self.others, "pipe, socket or device", "pipes, sockets or devices"));
        }
        parts
    }
}

/// The images of a folder, without those of its subfolders. Images are recognised by their content. A file that has the
/// ending of an image but not its content is an image too, so that it is not passed over but named as unreadable.
fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder {}", path.display());
    let (mut found, mut left_out) = (Vec::new(), LeftOut::default());
    for entry in std::fs::read_dir(path).with_context(context)? {
        let file = entry.with_context(context)?.path();
        match std::fs::metadata(&file) {
            Ok(about) if about.is_dir() => left_out.folders += 1,
            Ok(about) if !about.is_file() => left_out.others += 1,
            // A file that cannot be opened may be an image; prediction names it.
            Ok(_) if Format::of_file(&file).is_ok_and(|format| format.is_none()) && !is_named_as_image(&file) => {
                left_out.file(&file);
            }
            Err(_) if !is_named_as_image(&file) => left_out.file(&file),
            Ok(_) | Err(_) => found.push(file),
        }
    }
    let parts = left_out.parts();
    if found.is_empty() {
        let contents = if parts.is_empty() { "it is empty".to_owned() } else { format!("found {}", parts.join("; ")) };
        bail!("the folder {} contains no JPEG, PNG, WebP or BMP images: {contents}", path.display());
    }
    if !parts.is_empty() {
        let (path, images) = (path.display(), found.len());
        note!("warning: {path}: {images} images; left out: {}", parts.join("; "));
    }
    found.sort();
    Ok(found)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).with_context(|| format!("`{pattern}` is not a valid glob pattern"))?;
    let (mut found, mut left_out) = (Vec::new(), LeftOut::default());
    for path in paths {
        let path = path.with_context(|| format!("cannot read the folders of the glob pattern `{pattern}`"))?;
        if path.is_dir() {
            left_out.folders += 1;
        } else {
            found.push(path);
        }
    }
    let parts = left_out.parts();
    if found.is_empty() {
        let contents = if parts.is_empty() { String::new() } else { format!(": found {}", parts.join("; ")) };
        bail!("the glob pattern `{pattern}` matches no file{contents}");
    }
    if !parts.is_empty() {
        note!("warning: `{pattern}`: {} files; left out: {}", found.len(), parts.join("; "));
    }
    Ok(found)
}
