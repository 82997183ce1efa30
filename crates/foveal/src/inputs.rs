//! The inputs of `foveal predict`: files, folders and glob patterns.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// File name extensions of the formats that foveal-image decodes.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// The paths of the images that the inputs name, each once, in the order of the inputs. The images of a folder or of a
/// glob pattern are in the order of their names.
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

fn is_image(path: &Path) -> bool {
    path.is_file()
        && path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending)))
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder {}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(context)? {
        let file = entry.with_context(context)?.path();
        if is_image(&file) {
            found.push(file);
        }
    }
    if found.is_empty() {
        bail!("the folder {} contains no images ({})", path.display(), ENDINGS.join(", "));
    }
    found.sort();
    Ok(found)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).with_context(|| format!("`{pattern}` is not a valid glob pattern"))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.with_context(|| format!("cannot read the folders of the glob pattern `{pattern}`"))?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("the glob pattern `{pattern}` matches no file");
    }
    Ok(found)
}
