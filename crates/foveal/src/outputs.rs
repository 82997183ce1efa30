//! The files that a command reads and writes, compared with each other before anything is written.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use foveal_base::{Destination, destination};
use foveal_train::RunConfig;

use crate::failure::Usage;

/// Endings of the names of images, in lower case.
const IMAGES: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "heic", "heif", "jxl"];

/// The inputs and outputs of one command.
///
/// No output may be an input, and no two outputs may be the same file, whatever their paths look like: symbolic links
/// are followed, and hard links of one file are the same file. Pipes and devices are not compared, because nothing in
/// them can be lost.
#[derive(Default)]
pub(crate) struct Files<'a> {
    inputs: Vec<(&'a str, &'a Path)>,
    folders: Vec<Folder<'a>>,
    outputs: Vec<(&'a str, PathBuf)>,
    apart: Vec<Apart<'a>>,
}

/// A folder of inputs.
struct Folder<'a> {
    what: &'a str,
    path: &'a Path,
    /// Whether a file in the folder is an input, by its name.
    counts: fn(&Path) -> bool,
}

/// A folder that outputs are written into, and the inputs that must not be in it.
struct Apart<'a> {
    option: &'a str,
    folder: &'a Path,
    what: &'a str,
    inputs: &'a [PathBuf],
}

impl<'a> Files<'a> {
    /// No files yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds input files; `what` names them in messages, such as `checkpoint` or `image`.
    pub(crate) fn read<P: AsRef<Path> + ?Sized + 'a>(
        mut self,
        what: &'a str,
        paths: impl IntoIterator<Item = &'a P>,
    ) -> Self {
        self.inputs.extend(paths.into_iter().map(|path| (what, path.as_ref())));
        self
    }

    /// Adds folders in which all files are inputs, those in their subfolders too, except files whose names end in
    /// `.json`.
    pub(crate) fn read_folders(mut self, what: &'a str, folders: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        self.folders.extend(folders.into_iter().map(|path| Folder { what, path, counts: is_no_json }));
        self
    }

    /// Adds folders in which all files are inputs, those in their subfolders too.
    pub(crate) fn read_everything(mut self, what: &'a str, folders: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        self.folders.extend(folders.into_iter().map(|path| Folder { what, path, counts: |_| true }));
        self
    }

    /// Adds folders in which all images are inputs, those in their subfolders too.
    pub(crate) fn read_images(mut self, folders: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        self.folders.extend(folders.into_iter().map(|path| Folder { what: "image", path, counts: is_image }));
        self
    }

    /// Adds the annotation files and the weight file that a configuration names.
    pub(crate) fn read_named(self, config: &'a RunConfig) -> Self {
        self.read("annotation file", config.data.annotation_files()).read("weight file", &config.model.weights)
    }

    /// Adds all files that a configuration names: annotations, weights, and the images of all sets.
    pub(crate) fn read_config(self, config: &'a RunConfig) -> Self {
        self.read_named(config).read_images(config.data.image_folders())
    }

    /// Adds outputs; `option` is how the command line names them, such as `--json`. `-` stands for stdout.
    pub(crate) fn write<P: AsRef<Path> + ?Sized + 'a>(
        mut self,
        option: &'a str,
        paths: impl IntoIterator<Item = &'a P>,
    ) -> Self {
        let named = paths.into_iter().map(AsRef::as_ref).filter(|path| *path != Path::new("-"));
        self.outputs.extend(named.map(|path| (option, path.to_owned())));
        self
    }

    /// Adds outputs that are written into a folder, each made from one of the given inputs, which `what` names. None of
    /// the inputs may be directly in that folder: the name of an output is that of its input, and beside the input
    /// there may be other originals with such a name.
    pub(crate) fn write_into<'n>(
        mut self,
        option: &'a str,
        folder: &'a Path,
        names: impl IntoIterator<Item = &'n PathBuf>,
        (what, inputs): (&'a str, &'a [PathBuf]),
    ) -> Self {
        self.outputs.extend(names.into_iter().map(|name| (option, folder.join(name))));
        self.apart.push(Apart { option, folder, what, inputs });
        self.read(what, inputs)
    }

    /// Compares the files. This is to be called before anything is computed or written.
    ///
    /// # Errors
    /// [`Usage`] if an output is an input, a folder, or the same file as another output, or if an input is in a folder
    /// that outputs are written into. The message names both files.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        let mut seen: HashMap<Identity, (&str, &Path)> = HashMap::new();
        let mut existing: HashMap<Identity, &(&str, PathBuf)> = HashMap::new();
        for output in &self.outputs {
            let (option, path) = (output.0, &output.1);
            if path.is_dir() {
                return Err(Usage(format!("{option} {}: expected a file, found a folder", path.display())));
            }
            let Some((identity, exists)) = Identity::of_output(path) else { continue };
            if let Some((other, other_path)) = seen.insert(identity.clone(), (option, path)) {
                let text = format!(
                    "{option} {}: this is the same file as {other} {}; expected another file",
                    path.display(),
                    other_path.display()
                );
                return Err(Usage(text));
            }
            if exists {
                existing.insert(identity, output);
            }
        }
        self.apart.iter().try_for_each(Apart::check)?;
        // A file that does not exist is no input, so most commands compare nothing.
        if existing.is_empty() {
            return Ok(());
        }
        for (what, path) in &self.inputs {
            if let Some(output) = file(path).and_then(|known| existing.get(&Identity::of(path, &known))) {
                return Err(is_input(output, what, path));
            }
        }
        self.check_folders(&existing)
    }

    /// Checks that no existing output is a file in a folder of inputs.
    fn check_folders(&self, existing: &HashMap<Identity, &(&str, PathBuf)>) -> Result<(), Usage> {
        let many_names = existing.values().any(|(_, path)| file(path).is_some_and(|known| links(&known) > 1));
        for Folder { what, path, counts } in &self.folders {
            // The folder is searched only if an output could be in it.
            if !many_names && !existing.values().any(|(_, path)| real(path).is_some_and(|target| counts(&target))) {
                continue;
            }
            let mut entered = HashSet::new();
            let mut waiting = vec![path.to_path_buf()];
            while let Some(folder) = waiting.pop() {
                // A folder that cannot be read is reported by the command that reads it.
                let Ok(known) = fs::metadata(&folder) else { continue };
                if !entered.insert(Identity::of(&folder, &known)) {
                    continue;
                }
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let path = entry.path();
                    let Ok(known) = fs::metadata(&path) else { continue };
                    if known.is_dir() {
                        waiting.push(path);
                    } else if counts(&path)
                        && let Some(output) = existing.get(&Identity::of(&path, &known))
                    {
                        return Err(is_input(output, what, &path));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Apart<'_> {
    /// Checks that no input is directly in the folder.
    fn check(&self) -> Result<(), Usage> {
        let Ok(known) = fs::metadata(self.folder) else { return Ok(()) };
        let target = Identity::of(self.folder, &known);
        let mut others: HashSet<PathBuf> = HashSet::new();
        for path in self.inputs {
            // The folder of the input as it is named and, if it is a link, that of the file behind it.
            let real = path.is_symlink().then(|| path.canonicalize().ok()).flatten();
            for place in [Some(path.as_path()), real.as_deref()].into_iter().flatten().map(folder_of) {
                if others.contains(place) {
                    continue;
                }
                if fs::metadata(place).is_ok_and(|known| Identity::of(place, &known) == target) {
                    let Self { option, folder, what, .. } = self;
                    let (folder, path) = (folder.display(), path.display());
                    return Err(Usage(format!(
                        "{option} {folder}: this folder contains the {what} {path}, which is an input; expected another \
                         folder"
                    )));
                }
                others.insert(place.to_owned());
            }
        }
        Ok(())
    }
}

fn is_input((option, path): &(&str, PathBuf), what: &str, input: &Path) -> Usage {
    let (path, input) = (path.display(), input.display());
    let text = format!("{option} {path}: this is the {what} itself, which is an input ({what} {input})");
    Usage(format!("{text}; expected another file"))
}

/// The regular file that a path leads to, if there is one.
fn file(path: &Path) -> Option<Metadata> {
    fs::metadata(path).ok().filter(Metadata::is_file)
}

/// The path of the file that an output leads to, after all links.
fn real(path: &Path) -> Option<PathBuf> {
    match destination(path) {
        Ok(Destination::File(target)) => Some(target),
        _ => None,
    }
}

/// Whether a file is an image by its name, also of a format that foveal does not read.
fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    IMAGES.contains(&extension.as_str())
}

/// Whether a file is anything but JSON by its name. Results may be beside the files that they are made from.
fn is_no_json(path: &Path) -> bool {
    !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What makes two paths the same file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Device and number of an existing file or folder.
    #[cfg(unix)]
    Known(u64, u64),
    /// The path without links, of a file that does not exist or on systems that do not number files.
    Path(PathBuf),
}

impl Identity {
    #[cfg(unix)]
    fn of(_: &Path, known: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self::Known(known.dev(), known.ino())
    }

    #[cfg(not(unix))]
    fn of(path: &Path, _: &Metadata) -> Self {
        Self::Path(without_links(path))
    }

    /// The identity of an output, and whether it exists; `None` for pipes, devices and stdout.
    fn of_output(path: &Path) -> Option<(Self, bool)> {
        match destination(path) {
            Ok(Destination::File(target)) => Some(match file(&target) {
                Some(known) => (Self::of(&target, &known), true),
                None => (Self::Path(without_links(&target)), false),
            }),
            _ => None,
        }
    }
}

/// The absolute path without links, as far as it exists; what does not exist is appended to it.
fn without_links(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor.canonicalize().ok()?, ancestor)));
    let Some((mut real, ancestor)) = existing else { return path };
    let mut went_back = false;
    for part in path.strip_prefix(ancestor).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => went_back = real.pop(),
            other => real.push(other),
        }
        // After a step back out of folders that do not exist, the path can enter existing ones again.
        if went_back {
            real = real.canonicalize().unwrap_or(real);
        }
    }
    real
}

/// The number of names that a file has.
#[cfg(unix)]
fn links(known: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(known)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with the files `a/1.png` and `a/ann.json`, the symbolic link `b` to the folder `a`, and a function
    /// that makes paths in it.
    fn place() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/1.png"), "1").unwrap();
        fs::write(root.join("a/ann.json"), "2").unwrap();
        symlink("a", root.join("b")).unwrap();
        (dir, move |name| root.join(name))
    }

    #[track_caller]
    fn refused(files: &Files<'_>, words: &[&str]) {
        let text = files.check().expect_err("must be refused").to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    }

    #[test]
    fn an_output_is_no_input_through_any_path() {
        let (_dir, path) = place();
        let input = path("a/1.png");
        fs::hard_link(&input, path("hard")).unwrap();
        symlink("a/1.png", path("soft")).unwrap();
        symlink("soft", path("chain")).unwrap();
        for name in ["a/1.png", "a/../a/./1.png", "b/1.png", "hard", "soft", "chain"] {
            let output = path(name);
            refused(
                &Files::new().read("image", [&input]).write("--json", [&output]),
                &["--json", name, "image", "1.png"],
            );
            // The other way round, the input is named by the link.
            refused(&Files::new().read("image", [&output]).write("-o", [&input]), &["-o", name]);
        }
        for name in ["a/2.png", "new/1.png", "a/ann.json", "-"] {
            let output = path(name);
            assert!(Files::new().read("image", [&input]).write("--json", [&output]).check().is_ok(), "{name}");
        }
    }

    #[test]
    fn two_outputs_are_two_files_even_if_they_do_not_exist() {
        let (_dir, path) = place();
        symlink("new/c", path("a/dangling")).unwrap();
        for (one, two) in
            [("x.json", "x.json"), ("a/x", "b/x"), ("n/../x", "x"), ("a/new/c", "a/dangling"), ("a/1.png", "b/1.png")]
        {
            let (one, two) = (path(one), path(two));
            refused(&Files::new().write("--json", [&one]).write("--coco", [&two]), &["--json", "--coco", "same file"]);
        }
        let null = Path::new("/dev/null");
        assert!(Files::new().write("--json", [null]).write("--coco", [null]).check().is_ok());
        assert!(Files::new().write("--json", ["-"]).write("--coco", [&path("-")]).check().is_ok());
        refused(&Files::new().write("--json", [&path("a")]), &["--json", "a folder"]);
    }

    #[test]
    fn files_in_folders_of_inputs_are_inputs_except_results() {
        let (_dir, path) = place();
        let folders = [path("b")];
        let check = |name: &str| {
            let output = path(name);
            let files = |files: Files<'_>| files.write("--json", [&output]).check();
            let all = files(Files::new().read_folders("image", &folders));
            assert_eq!(all.is_ok(), files(Files::new().read_images(&folders)).is_ok(), "{name}");
            all
        };
        assert!(check("a/ann.json").is_ok() && check("a/new.png").is_ok());
        assert!(check("a/1.png").unwrap_err().to_string().contains("b/1.png"));
        fs::create_dir(path("a/deep")).unwrap();
        symlink("..", path("a/deep/circle")).unwrap();
        fs::write(path("a/deep/2.png"), "3").unwrap();
        assert!(check("a/deep/2.png").is_err());
        fs::hard_link(path("a/deep/2.png"), path("hard.json")).unwrap();
        assert!(check("hard.json").unwrap_err().to_string().contains("2.png"));
        // An image behind a link in the folder.
        fs::write(path("store.png"), "4").unwrap();
        symlink("../store.png", path("a/3.png")).unwrap();
        assert!(check("store.png").unwrap_err().to_string().contains("3.png"));
        // Only images are inputs in a folder of images.
        let notes = [path("a/notes.txt")];
        fs::write(&notes[0], "5").unwrap();
        assert!(Files::new().read_images(&folders).write("--json", &notes).check().is_ok());
        assert!(Files::new().read_folders("file", &folders).write("--json", &notes).check().is_err());
    }

    #[test]
    fn outputs_are_not_written_into_a_folder_of_inputs() {
        let (_dir, path) = place();
        fs::create_dir(path("c")).unwrap();
        symlink("../a/1.png", path("c/link.png")).unwrap();
        let into = |input: &str, folder: &str, name: &str| {
            let (inputs, folder) = ([path(input)], path(folder));
            Files::new().write_into("--draw", &folder, [&PathBuf::from(name)], ("image", &inputs)).check()
        };
        for (input, folder) in [("a/1.png", "a"), ("a/1.png", "b"), ("b/1.png", "a"), ("c/link.png", "a")] {
            let text = into(input, folder, "other.jpg").unwrap_err().to_string();
            assert!(text.contains("--draw") && text.contains(input), "{text}");
        }
        assert!(into("a/1.png", "a/drawn", "1.jpg").is_ok() && into("a/1.png", "c", "1.jpg").is_ok());
        // A link in another folder leads back to the image.
        assert!(into("a/1.png", "c", "link.png").unwrap_err().to_string().contains("1.png"));
    }
}
