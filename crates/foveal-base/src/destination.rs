//! What the path of an output leads to.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What the path of an output leads to, after all symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A regular file, or one that does not exist. The path is that of the file, not of a link to it. Its folder need
    /// not exist.
    File(PathBuf),
    /// A pipe, a device, a folder, or an open descriptor other than stdout and stderr.
    Stream(PathBuf),
    /// The process's own stdout, as `/dev/stdout` or `/dev/fd/1`.
    Stdout,
    /// The process's own stderr, as `/dev/stderr` or `/dev/fd/2`.
    Stderr,
}

/// Largest number of links that are followed; Linux follows as many.
const MAX_LINKS: usize = 40;

/// Finds out what the path of an output leads to. Nothing is opened.
///
/// Symbolic links are followed one by one, because a link to a file that does not exist leads to that file, and because
/// the entries of `/dev/fd` are links whose target must not be replaced: it is open already.
///
/// # Errors
/// If links form a circle.
pub fn destination(path: &Path) -> io::Result<Destination> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        match descriptor(&at) {
            Some(Descriptor { own: true, number }) if number == "1" => return Ok(Destination::Stdout),
            Some(Descriptor { own: true, number }) if number == "2" => return Ok(Destination::Stderr),
            Some(_) => return Ok(Destination::Stream(at)),
            None => {}
        }
        match fs::read_link(&at) {
            Ok(target) => at = folder_of(&at).join(target),
            // Not a link, or nothing that can be looked at; creating the file will say what is wrong.
            Err(_) => {
                let special = fs::metadata(&at).is_ok_and(|known| !known.is_file());
                return Ok(if special { Destination::Stream(at) } else { Destination::File(at) });
            }
        }
    }
    Err(io::Error::other(format!("more than {MAX_LINKS} symbolic links")))
}

/// The folder of a file; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An entry in a folder of open descriptors.
struct Descriptor {
    /// Whether the descriptor is one of this process.
    own: bool,
    /// The number of the descriptor.
    number: String,
}

/// The descriptor that a path names; `None` if the path is not in a folder of open descriptors.
fn descriptor(path: &Path) -> Option<Descriptor> {
    let number = path.file_name()?.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))?.to_owned();
    let folder = folder_of(path).canonicalize().ok()?;
    if folder == Path::new("/dev/fd") {
        return Some(Descriptor { own: true, number });
    }
    // `/proc/PID/fd` or `/proc/PID/task/TID/fd`.
    let parts: Vec<&str> = folder.components().map(as_text).collect();
    match parts[..] {
        ["/", "proc", process, "fd"] | ["/", "proc", process, "task", _, "fd"] => {
            Some(Descriptor { own: process.parse() == Ok(std::process::id()), number })
        }
        _ => None,
    }
}

/// The text of a part of a path; empty if it is not Unicode.
fn as_text(part: Component<'_>) -> &str {
    match part {
        Component::RootDir => "/",
        Component::Normal(name) => name.to_str().unwrap_or_default(),
        _ => "",
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn own_descriptors_are_known_through_every_path() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("out");
        symlink("/dev/stdout", &link).unwrap();
        for path in [&link, Path::new("/dev/stdout"), Path::new("/dev/fd/1"), Path::new("/proc/thread-self/fd/1")] {
            assert_eq!(destination(path).unwrap(), Destination::Stdout, "{}", path.display());
        }
        assert_eq!(destination(Path::new("/dev/stderr")).unwrap(), Destination::Stderr);
        assert!(matches!(destination(Path::new("/dev/fd/0")).unwrap(), Destination::Stream(_)));
        assert!(matches!(destination(Path::new("/dev/null")).unwrap(), Destination::Stream(_)));
        // A folder that only has the name of the real one.
        fs::create_dir(dir.path().join("fd")).unwrap();
        let plain = dir.path().join("fd/1");
        assert_eq!(destination(&plain).unwrap(), Destination::File(plain));
    }

    #[test]
    fn links_lead_to_their_last_target_and_circles_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        symlink("b", path("a")).unwrap();
        symlink("none/c", path("b")).unwrap();
        assert_eq!(destination(&path("a")).unwrap(), Destination::File(path("none/c")));
        symlink("y", path("x")).unwrap();
        symlink("x", path("y")).unwrap();
        assert!(destination(&path("x")).unwrap_err().to_string().contains("symbolic links"));
    }
}
