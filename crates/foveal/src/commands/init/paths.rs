//! Paths in a configuration, relative to its folder where possible.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// Most folders that a relative path goes up.
const MOST_UP: usize = 3;

/// The path of an existing file or folder as it is written into a configuration in `folder`: relative to that folder if
/// it is in it or in a folder near it, else absolute.
///
/// # Errors
/// If the current folder is unknown, or the path cannot be written as text.
pub(crate) fn in_config(path: &Path, folder: &Path) -> Result<String> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
    let (target, base) = (absolute(path)?, absolute(folder)?);
    let written = match target.strip_prefix(&base) {
        Ok(inside) if !inside.as_os_str().is_empty() => inside.to_owned(),
        // Going up from a folder is only sure without links.
        _ => match (target.canonicalize(), base.canonicalize()) {
            (Ok(real), Ok(base)) => near(&real, &base).unwrap_or(target),
            _ => target,
        },
    };
    let text = written.to_str().ok_or_else(|| {
        anyhow!("{}: expected a path that is UTF-8 text, because it is written into the configuration", path.display())
    })?;
    Ok(text.to_owned())
}

/// The path of `target` from `base`, if it goes up at most three folders.
fn near(target: &Path, base: &Path) -> Option<PathBuf> {
    let shared = target.components().zip(base.components()).take_while(|(a, b)| a == b).count();
    let up = base.components().count() - shared;
    // Two paths that have only the root in common are not near each other.
    let apart = base.components().take(shared).all(|part| matches!(part, Component::Prefix(_) | Component::RootDir));
    if up > MOST_UP || apart {
        return None;
    }
    let down: Vec<Component> = target.components().skip(shared).collect();
    if up == 0 && down.is_empty() {
        return Some(PathBuf::from("."));
    }
    Some(std::iter::repeat_n(Component::ParentDir, up).chain(down).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_near_the_configuration_are_relative() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["project/configs", "project/data/images", "a/b/c/d/e"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let of = |path: &str, folder: &str| in_config(&dir.path().join(path), &dir.path().join(folder)).unwrap();
        assert_eq!(of("project/data/images", "project"), "data/images");
        assert_eq!(of("project/data/images", "project/configs"), "../data/images");
        assert_eq!(of("project", "project"), ".");
        assert_eq!(of("project", "a/b"), "../../project");
        assert_eq!(PathBuf::from(of("project", "a/b/c/d/e")), dir.path().join("project"));
        assert_eq!(near(Path::new("/data/x"), Path::new("/home/me")), None);
    }
}
