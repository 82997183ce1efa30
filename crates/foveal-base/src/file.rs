//! Atomic writing: a file has either its old content or the complete new content.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::destination::{Destination, destination, folder_of};

/// The error of a file that could not be written. The message names the path and the reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// Path of the file that was to be written, as the caller gave it.
    pub path: PathBuf,
    /// Error of the operating system, or of the function that produced the content.
    pub source: io::Error,
}

/// End of the names of temporary files; [`sweep`] recognises them by it.
const SUFFIX: &str = ".foveal-tmp";
/// Number of random letters and digits in the name of a temporary file.
const RANDOM: usize = 12;
/// Largest number of bytes of the target's name in the name of a temporary file. File systems allow 143 to 255 bytes.
const KEPT: usize = 100;

/// Writes `bytes` to the file `path` atomically: a reader sees either the old content or the complete new content.
///
/// The content goes to a temporary file in the same folder, which is synced to the disk and then renamed; then the
/// folder is synced. A symbolic link is followed, and the file that it points to is replaced or created. A path that
/// exists and is not a regular file, such as a pipe or a terminal, is written directly.
///
/// # Errors
/// [`WriteError`] if the folder does not exist or the file cannot be written. The temporary file is then removed, and
/// the old content remains.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_atomically_with(path, |out| out.write_all(bytes))
}

/// Writes the file `path` atomically, with content that the function `fill` writes piece by piece to a buffered writer.
///
/// A reader sees either the old content or the complete new content: a temporary file in the same folder is filled,
/// synced to the disk and then renamed; then the folder is synced. The name of the temporary file is random and new,
/// so that two processes never write to the same one. A symbolic link is followed; a pipe, a device and an open
/// descriptor such as `/dev/stdout` are written directly.
///
/// # Errors
/// [`WriteError`] if the folder does not exist, the file cannot be written, or `fill` returns an error. The temporary
/// file is then removed, and the old content remains; if the folder alone cannot be synced, the new content is there,
/// but a power failure could bring the old one back.
pub fn write_atomically_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let written = destination(path).and_then(|found| match found {
        Destination::File(target) => replace(&target, fill, true),
        // Opened for appending, so that a regular file behind a descriptor keeps what it contains.
        Destination::Stream(stream) => buffered(File::options().append(true).open(stream)?, fill).map(drop),
        Destination::Stdout => buffered(io::stdout(), fill)?.flush(),
        Destination::Stderr => buffered(io::stderr(), fill)?.flush(),
    });
    written.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Writes `bytes` to the file `path`: another process sees either the old content or the complete new content. A file
/// or a link of this name is replaced.
///
/// Nothing is synced to the disk, which makes many small files fast. A power failure can leave a file without its
/// content, so that this is for files that can be made again and have a checksum.
///
/// # Errors
/// [`WriteError`] if the folder does not exist or the file cannot be written. The temporary file is then removed, and
/// the old content remains.
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replace(path, |out| out.write_all(bytes), false).map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Syncs a folder to the disk, so that files which were created, renamed or removed in it are so after a power failure.
/// Systems and file systems that cannot sync a folder are no error.
///
/// # Errors
/// If the disk reports an error.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows opens no folders as files; there, a rename is on the disk when the file system's journal is.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder).and_then(|open| open.sync_all()) {
        Err(error) if cannot_sync(&error) => Ok(()),
        other => other,
    }
}

/// Whether the error says that a folder cannot be synced here, rather than that syncing failed.
fn cannot_sync(error: &io::Error) -> bool {
    // Network and FUSE file systems answer with EINVAL, ENOTSUP, ENOSYS or EBADF; folders without read permission
    // cannot be opened.
    const EBADF: i32 = 9;
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(EBADF)
}

/// Removes the temporary files that killed processes have left in a folder, and returns their number. Folders in it are
/// not searched. A folder that does not exist is no error.
///
/// The files of processes that are still writing are removed too, whose writes then fail. So it may be called only
/// where no other process writes, such as in a run folder under the run's lock.
///
/// # Errors
/// [`WriteError`] with the path of the folder or file if the folder cannot be read or a file cannot be removed.
pub fn sweep(folder: &Path) -> Result<usize, WriteError> {
    let error = |path: &Path, source| WriteError { path: path.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(|source| error(folder, source))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|source| error(folder, source))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_temporary(&entry.file_name()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| error(&path, source))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Replaces or creates a regular file by a rename. If `sync` is set, the file and its folder are synced to the disk.
fn replace(target: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>, sync: bool) -> io::Result<()> {
    let folder = folder_of(target);
    let name = target.file_name().unwrap_or_default();
    // `create_new` fails if the name exists, even as a link, and another name is tried then.
    let temporary = tempfile::Builder::new()
        .prefix(&prefix(name))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .make_in(folder, |path| File::options().write(true).create_new(true).open(path))?;
    if let Ok(old) = fs::metadata(target) {
        // The new file is as private as the old one. File systems without permissions refuse this, and need it not.
        let _ = temporary.as_file().set_permissions(old.permissions());
    }
    let written = buffered(temporary.as_file(), fill)?;
    if sync {
        written.sync_all()?;
    }
    temporary.persist(target)?;
    if sync { sync_folder(folder) } else { Ok(()) }
}

/// Fills a writer through a buffer, and returns it.
fn buffered<W: Write>(writer: W, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<W> {
    let mut out = BufWriter::new(writer);
    fill(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

/// The begin of the name of a temporary file: a dot, which hides the file, and the target's name.
fn prefix(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let mut end = name.len().min(KEPT);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}.", &name[..end])
}

/// Returns whether a name is that of a temporary file of [`write_atomically`]: `.NAME.<random letters and
/// digits>.foveal-tmp`.
pub fn is_temporary(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let random =
        name.strip_prefix('.').and_then(|rest| rest.strip_suffix(SUFFIX)).and_then(|rest| rest.rsplit_once('.'));
    random.is_some_and(|(_, text)| text.len() == RANDOM && text.chars().all(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a folder, sorted.
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_leaves_the_old_content_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomically(&path, b"old").unwrap();
        let error = write_atomically_with(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("the disk is full"))
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a.txt") && text.contains("the disk is full"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.txt"]);
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn files_that_are_not_synced_are_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for content in [&b"old"[..], b"new"] {
            replace_unsynced(&path, content).unwrap();
            assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (content.to_vec(), vec!["a".to_owned()]));
        }
        let text = replace_unsynced(&dir.path().join("none/a"), b"").unwrap_err().to_string();
        assert!(text.contains("none"), "{text}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = write_atomically(&dir.path().join("none/a.txt"), b"").unwrap_err().to_string();
        assert!(text.contains("none"), "{text}");
        assert!(write_atomically(dir.path(), b"").is_err());
    }

    #[test]
    fn temporary_names_differ_each_time_and_fit_long_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::HashSet::new();
        // 240 bytes, in letters of three bytes: the name of the temporary file is cut between letters.
        let path = dir.path().join("猫".repeat(80));
        for _ in 0..20 {
            write_atomically_with(&path, |_| {
                let during = names(dir.path());
                let temporary = during.iter().find(|name| is_temporary(OsStr::new(name))).expect("a temporary file");
                assert!(temporary.starts_with(".猫") && seen.insert(temporary.clone()), "{temporary}");
                Ok(())
            })
            .unwrap();
        }
    }

    #[test]
    fn a_write_inside_a_write_of_the_same_file_uses_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomically_with(&path, |out| {
            write_atomically(&path, b"inner").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"inner");
            out.write_all(b"outer")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"outer");
    }

    #[test]
    fn a_sweep_removes_temporary_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let kept =
            ["a.json", ".a.json", "b.foveal-tmp", ".b.foveal-tmp", ".c.short.foveal-tmp", ".d.0123456789a-.foveal-tmp"];
        for name in kept.iter().chain(&[".a.json.0123456789aB.foveal-tmp", "..0123456789aB.foveal-tmp"]) {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        fs::create_dir(dir.path().join(".folder.0123456789aB.foveal-tmp")).unwrap();
        // A process that was killed while it wrote leaves such a file.
        let path = dir.path().join("weights");
        write_atomically_with(&path, |_| {
            let during = names(dir.path());
            let temporary = during.iter().find(|name| name.starts_with(".weights.")).unwrap();
            fs::copy(dir.path().join(temporary), dir.path().join(".weights.AAAAAAAAAAAA.foveal-tmp")).map(drop)
        })
        .unwrap();
        assert_eq!(sweep(dir.path()).unwrap(), 3);
        let mut left = kept.map(str::to_owned).to_vec();
        left.extend([".folder.0123456789aB.foveal-tmp".to_owned(), "weights".to_owned()]);
        left.sort();
        assert_eq!(names(dir.path()), left);
        assert_eq!(sweep(&dir.path().join("none")).unwrap(), 0);
        assert!(sweep(&path).unwrap_err().to_string().contains("weights"));
    }

    #[test]
    fn folders_can_be_synced() {
        let dir = tempfile::tempdir().unwrap();
        sync_folder(dir.path()).unwrap();
        assert!(sync_folder(&dir.path().join("none")).is_err() || !cfg!(unix));
        assert!(cannot_sync(&io::Error::from_raw_os_error(22)) && !cannot_sync(&io::Error::from_raw_os_error(5)));
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_stays_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomically(&path, b"old").unwrap();
        assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o044, 0, "readable for others, as usual");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_even_to_files_that_do_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, chain) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("chain"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        std::os::unix::fs::symlink(&link, &chain).unwrap();
        for (path, text) in [(&link, "a"), (&chain, "b"), (&link, "c")] {
            write_atomically(path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&chain).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
        }
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_to_and_stay() {
        use std::io::Read;
        use std::os::unix::fs::FileTypeExt;
        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        if !std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
            return;
        }
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        write_atomically(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(dir.path()), ["pipe"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_behind_a_descriptor_keeps_its_content() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let open = File::options().append(true).open(&path).unwrap();
        for folder in ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"] {
            write_atomically(&Path::new(folder).join(open.as_raw_fd().to_string()), b"line\n").unwrap();
        }
        (&open).write_all(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nline\nline\nline\nafter\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error() {
        let text = write_atomically(Path::new("/dev/full"), b"x").unwrap_err().to_string();
        assert!(text.contains("/dev/full") && text.contains("No space left"), "{text}");
    }
}
