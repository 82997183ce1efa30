//! Which images the inputs of `predict` name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Endings of the formats that foveal-image decodes.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// The images that files, folders and globs name, each once, in the order given;
/// a folder's and a glob's by name.
///
/// # Errors
/// An input that is not there, a folder without images, a glob that is none or matches nothing.
pub fn expand(inputs: &[String]) -> Result<Vec<PathBuf>> {
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
            bail!("input {input} is not there");
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
        bail!("the folder {} holds no images ({})", path.display(), ENDINGS.join(", "));
    }
    found.sort();
    Ok(found)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).with_context(|| format!("`{pattern}` is no glob"))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.with_context(|| format!("cannot follow the glob `{pattern}`"))?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("the glob `{pattern}` matches no file");
    }
    Ok(found)
}
