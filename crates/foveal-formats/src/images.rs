//! The files of a data set: walks through folders, images by the names of annotation files, and their sizes.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use foveal_base::names::{Folder, Found, list};
use foveal_image::oriented_size;

use crate::FormatError;

/// File name extensions of the images that foveal reads.
pub(crate) const ENDINGS: [&str; 6] = ["jpg", "jpeg", "jfif", "png", "bmp", "webp"];

/// Whether a path ends as the names of images that foveal reads.
pub(crate) fn is_image_name(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending)))
}

/// Whether a path has an extension, in small or capital letters.
pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// All paths in a folder for which `is_entry` is true, sorted. Folders for which it is false are entered, each once,
/// whatever links lead to it.
///
/// # Errors
/// [`FormatError::Io`] with the folder that cannot be read.
pub(crate) fn entries_below(folder: &Path, is_entry: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, FormatError> {
    let mut found = Vec::new();
    let mut entered = HashSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let error = |source| FormatError::io(&folder, source);
        if !entered.insert(folder.canonicalize().map_err(error)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            if is_entry(&path) {
                found.push(path);
            } else if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The name of a file in a folder, with `/` between its parts: `None` if the name is no relative path, or if it leaves
/// the folder.
pub(crate) fn inside(name: &str) -> Option<String> {
    let drive = cfg!(windows) && name.as_bytes().get(1) == Some(&b':');
    if drive || name.starts_with(['/', '\\']) || name.contains('\0') {
        return None;
    }
    let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !["", "."].contains(part)).collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// The last component of a path of any system.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// A folder of images, in which the names of annotation files are looked up.
pub(crate) struct Images {
    root: PathBuf,
    folder: Folder,
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub path: PathBuf,
    /// Name relative to the folder of images.
    pub name: String,
    /// How the name led to the file.
    pub way: Way,
}

/// How a name led to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The file has exactly this name.
    Exact,
    /// The name is another spelling, by case, composed letters, separators or percent-encoding.
    Spelling,
    /// Only the last component of the name is that of the file.
    LastPart,
}

impl Images {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), folder: Folder::new(root) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The image that a name means: a path relative to the folder, else its last component.
    ///
    /// # Errors
    /// A reason that names the folder, if no image or several images could be meant.
    pub(crate) fn find(&mut self, name: &str) -> Result<Image, String> {
        let last = last_part(name).to_owned();
        match self.folder.find(name) {
            Found::Exact(path) if path.is_file() => return Ok(self.image(path, Way::Exact)),
            Found::Alike(path) if path.is_file() => return Ok(self.image(path, Way::Spelling)),
            Found::Several(several) => return Err(format!("the image {name:?} could mean {}", list(&several))),
            _ => {}
        }
        match self.folder.find(&last) {
            Found::Exact(path) | Found::Alike(path) if path.is_file() => Ok(self.image(path, Way::LastPart)),
            Found::Several(several) => Err(format!("the image {name:?} could mean {}", list(&several))),
            Found::Missing(Some(near)) => {
                Err(format!("found no image {name:?} in {}; there is {}", self.root.display(), near.display()))
            }
            _ => Err(format!("found no image {name:?} in {}", self.root.display())),
        }
    }

    /// The image in this folder whose name without extension is `stem`.
    ///
    /// # Errors
    /// A reason that names the folder, if there is no such image or there are several.
    pub(crate) fn with_stem(&mut self, stem: &str) -> Result<Image, String> {
        let (folder, last) = stem.rsplit_once(['/', '\\']).unwrap_or(("", stem));
        let alike: Vec<PathBuf> =
            self.folder.with_stem(folder, last).into_iter().filter(|path| is_image_name(path)).collect();
        let exact: Vec<PathBuf> =
            alike.iter().filter(|path| path.file_stem().is_some_and(|s| s == last)).cloned().collect();
        let way = if exact.is_empty() { Way::Spelling } else { Way::Exact };
        match if exact.is_empty() { alike } else { exact }.as_slice() {
            [path] => Ok(self.image(path.clone(), way)),
            [] => Err(format!("found no image {stem} ({}) in {}", ENDINGS.join(", "), self.root.display())),
            several => Err(format!("the image {stem} could be {}; expected one image", list(several))),
        }
    }

    fn image(&self, path: PathBuf, way: Way) -> Image {
        let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
        Image { path, name, way }
    }
}

/// A path without `.` and without `..` after a folder, such as `set/images` for `set/lists/../images`, if it leads to
/// the same file or folder; else the path as it is. Behind a symbolic link, `..` can lead elsewhere.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match (part, short.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(short.pop()),
            (Component::CurDir, _) => {}
            _ => short.push(part),
        }
    }
    if short.as_os_str().is_empty() {
        short.push(".");
    }
    let same = || Some(path.canonicalize().ok()? == short.canonicalize().ok()?);
    if short.as_os_str() != path.as_os_str() && same() == Some(true) { short } else { path.to_owned() }
}

/// The size of an image file in pixels, after its EXIF orientation is applied.
///
/// # Errors
/// The reason, which names the file.
pub(crate) fn size(path: &Path) -> Result<(u32, u32), String> {
    oriented_size(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_name_spelling_last_part_or_stem() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cam 1")).unwrap();
        for name in ["cam 1/a.jpg", "b.PNG", "c.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut images = Images::new(dir.path());
        let mut found = |name: &str| images.find(name).map(|image| (image.name, image.way));
        assert_eq!(found("cam 1/a.jpg"), Ok(("cam 1/a.jpg".into(), Way::Exact)));
        assert_eq!(found("Cam%201\\A.jpg"), Ok(("cam 1/a.jpg".into(), Way::Spelling)));
        assert_eq!(found("/home/me/b.PNG"), Ok(("b.PNG".into(), Way::LastPart)));
        let missing = found("x/b.jpg").unwrap_err();
        assert!(missing.contains("\"x/b.jpg\"") && missing.contains("there is"), "{missing}");
        assert_eq!(images.with_stem("b").unwrap().name, "b.PNG");
        assert_eq!(images.with_stem("cam 1/a").unwrap().name, "cam 1/a.jpg");
        assert!(images.with_stem("c").unwrap_err().contains("found no image c"));
    }

    #[test]
    #[cfg(unix)]
    fn paths_are_shortened_unless_they_would_lead_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["a/b/c", "a/images", "images"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::os::unix::fs::symlink(at("a/b"), at("link")).unwrap();
        for (path, short) in [
            ("a/b/../images", "a/images"),
            ("a/./b/c/../../../images/.", "images"),
            ("a/images", "a/images"),
            // The folder above the target of the link is `a`, the one above the link is not.
            ("link/../images", "link/../images"),
            ("link/c/../c", "link/c"),
            ("none/../images", "none/../images"),
        ] {
            assert_eq!(plain(&at(path)).as_os_str(), at(short).as_os_str(), "{path}");
        }
        assert_eq!(plain(Path::new("../x")), Path::new("../x"));
        assert_eq!(plain(Path::new("src/..")), Path::new("."));
    }

    #[test]
    fn names_that_leave_a_folder_are_refused() {
        for (name, same) in [
            ("a.jpg", "a.jpg"),
            ("./a//b.jpg", "a/b.jpg"),
            ("a\\b.jpg", "a/b.jpg"),
            ("..a/b..jpg", "..a/b..jpg"),
            ("a b, \"c\".jpg", "a b, \"c\".jpg"),
        ] {
            assert_eq!(inside(name).as_deref(), Some(same), "{name}");
        }
        for name in ["", ".", "/a.jpg", "../a.jpg", "a/../b.jpg", "a\\..\\b.jpg", "\\a.jpg", "a\0"] {
            assert_eq!(inside(name), None, "{name:?}");
        }
    }
}
