//! Names in other spellings: the file that a name means if no file has exactly this name, and class names that are
//! alike.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use unicode_normalization::UnicodeNormalization;

/// Returns the components of a path in the form in which two names of the same file are equal: percent-encoding is
/// decoded, backslashes separate folders, case is folded, letters are composed (Unicode NFC), and spaces and line ends
/// around a component are removed. The components `.` and the empty ones are left out.
pub fn folded(name: &str) -> Vec<String> {
    let plain = percent_decode_str(name).decode_utf8().unwrap_or_else(|_| name.into());
    plain.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").map(fold).collect()
}

/// Returns the name of a class without what differs between two spellings of it: case, Unicode form (NFKC), spaces,
/// underscores and hyphens. Two class names are alike if the results are equal.
pub fn folded_class(name: &str) -> String {
    let lower = name.nfkd().collect::<String>().to_lowercase();
    lower.nfkc().filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-')).collect()
}

/// Lower case, then composed: the lower case of a composed letter may be decomposed.
fn fold(component: &str) -> String {
    component.trim().nfd().collect::<String>().to_lowercase().nfc().collect()
}

/// The result of [`Folder::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A path has exactly this name.
    Exact(PathBuf),
    /// Exactly one path has this name apart from case, composed letters, separators or percent-encoding.
    Alike(PathBuf),
    /// Several paths have this name apart from case, composed letters, separators or percent-encoding.
    Several(Vec<PathBuf>),
    /// No path has this name. A path with the same stem and another extension, or with the same name in the folder
    /// itself, may be what was meant.
    Missing(Option<PathBuf>),
}

/// A folder in which names of other systems are looked up. Listings of folders are kept, so that many names can be
/// looked up fast.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    listings: HashMap<PathBuf, Listing>,
}

/// The entries of a folder by their folded names, and by their folded stems.
#[derive(Debug, Default)]
struct Listing {
    names: HashMap<String, Vec<OsString>>,
    stems: HashMap<String, Vec<OsString>>,
}

impl Folder {
    /// A folder. It is read at the first name that it does not contain exactly.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), listings: HashMap::new() }
    }

    /// Finds the file or folder that `name` means, a path relative to this folder. A folder that cannot be read counts
    /// as empty.
    pub fn find(&mut self, name: &str) -> Found {
        let exact = self.root.join(name);
        if !name.is_empty() && fs::metadata(&exact).is_ok() {
            return Found::Exact(exact);
        }
        let components = folded(name);
        let Some(last) = components.last().cloned() else { return Found::Missing(None) };
        let start = if name.starts_with('/') { PathBuf::from("/") } else { self.root.clone() };
        let mut places = vec![start];
        let mut parents = Vec::new();
        for component in &components {
            parents = std::mem::take(&mut places);
            for parent in &parents {
                if component == ".." {
                    places.push(parent.join(component));
                } else {
                    let entries = self.listing(parent).names.get(component).into_iter().flatten();
                    places.extend(entries.map(|entry| parent.join(entry)));
                }
            }
            if places.is_empty() {
                break;
            }
        }
        places.sort();
        match places.len() {
            0 => Found::Missing(self.near(&parents, &last)),
            1 => Found::Alike(places.remove(0)),
            _ => Found::Several(places),
        }
    }

    /// All files directly in `folder` (relative to this folder; empty for itself) whose names without extension are
    /// `stem`, apart from case and composed letters. They are sorted.
    pub fn with_stem(&mut self, folder: &str, stem: &str) -> Vec<PathBuf> {
        let place = self.root.join(folder);
        let entries = self.listing(&place).stems.get(&fold(stem)).cloned().unwrap_or_default();
        let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| place.join(entry)).collect();
        found.sort();
        found
    }

    /// A path that may have been meant by the missing name `last` of one of the folders `parents`.
    fn near(&mut self, parents: &[PathBuf], last: &str) -> Option<PathBuf> {
        let stem = Path::new(last).file_stem()?.to_str()?.to_owned();
        let root = self.root.clone();
        for place in parents.iter().chain([&root]) {
            let listing = self.listing(place);
            if let Some(entry) = listing.names.get(last).or_else(|| listing.stems.get(&stem)).and_then(|e| e.first()) {
                return Some(place.join(entry));
            }
        }
        None
    }

    fn listing(&mut self, place: &Path) -> &Listing {
        match self.listings.entry(place.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(empty) => empty.insert(Listing::of(place)),
        }
    }
}

impl Listing {
    fn of(place: &Path) -> Self {
        let mut listing = Self::default();
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let folded_stem = Path::new(&*text).file_stem().map(|stem| fold(&stem.to_string_lossy()));
            // A name with an encoded separator is one component on the disk, so that it is folded without splitting.
            let key = fold(&percent_decode_str(&text).decode_utf8().unwrap_or_else(|_| (&*text).into()));
            if let Some(stem) = folded_stem {
                listing.stems.entry(stem).or_default().push(name.clone());
            }
            listing.names.entry(key).or_default().push(name);
        }
        listing
    }
}

/// Returns a hint for the message of a file that was not found: the path that its name means apart from case, composed
/// letters, separators or percent-encoding, or a path with the same stem, if there is one.
pub fn hint(path: &Path) -> Option<String> {
    let (parent, name) = (path.parent()?, path.to_str()?);
    // A name with backslashes is one component here, so that the folders in it are looked up as well.
    let name = parent.to_str().map_or(name, |parent| name[parent.len()..].trim_start_matches('/'));
    match Folder::new(parent).find(name) {
        Found::Alike(near) | Found::Missing(Some(near)) => Some(format!("there is {}", near.display())),
        Found::Several(several) => Some(format!("there are {}", list(&several))),
        Found::Exact(_) | Found::Missing(None) => None,
    }
}

/// The first paths of a list, for a message.
pub fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > SHOWN { format!(" and {} more", paths.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_class_name_are_alike() {
        for (one, other) in [
            ("Traffic Light", "traffic_light"),
            ("traffic-light", "trafficlight"),
            ("Caf\u{e9}", "cafe\u{301}"),
            ("ﬁre", "FIRE"),
            ("червоний ", "ЧЕРВОНИЙ"),
        ] {
            assert_eq!(folded_class(one), folded_class(other), "{one}");
        }
        // A class name is no path and not percent-encoded.
        assert_ne!(folded_class("a/b"), folded_class("ab"));
        assert_ne!(folded_class("a%20b"), folded_class("a b"));
        assert_ne!(folded_class("cat"), folded_class("cats"));
        assert_ne!(folded_class("café"), folded_class("cafe"));
    }

    fn folder(names: &[&str]) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let folder = Folder::new(dir.path());
        (dir, folder)
    }

    #[test]
    fn a_single_file_is_found_under_names_of_other_systems() {
        let (dir, mut folder) = folder(&["Cam 1/Caf\u{e9}.JPG", "a%20b.png", "c d.png", "u\u{308}.png", "x\\y.png"]);
        for (name, file) in [
            ("Cam 1\\Caf\u{e9}.JPG", "Cam 1/Caf\u{e9}.JPG"),
            ("./cam%201/cafe\u{301}.jpg", "Cam 1/Caf\u{e9}.JPG"),
            ("CAM 1/CAF\u{c9}.jpg", "Cam 1/Caf\u{e9}.JPG"),
            ("a b.png", "a%20b.png"),
            ("c d.png\r", "c d.png"),
            ("c%20d.png", "c d.png"),
            ("\u{fc}.png", "u\u{308}.png"),
        ] {
            assert_eq!(folder.find(name), Found::Alike(dir.path().join(file)), "{name}");
        }
        for name in ["x\\y.png", "Cam 1/Caf\u{e9}.JPG", "a%20b.png"] {
            assert_eq!(folder.find(name), Found::Exact(dir.path().join(name)), "{name}");
        }
    }

    #[test]
    fn an_ambiguous_or_missing_name_is_never_guessed() {
        let (dir, mut folder) = folder(&["A.jpg", "a.jpg", "b.png", "sub/c.jpg", "d.jpg"]);
        let path = |name: &str| dir.path().join(name);
        assert_eq!(folder.find("a.JPG"), Found::Several(vec![path("A.jpg"), path("a.jpg")]));
        assert_eq!(folder.find("a.jpg"), Found::Exact(path("a.jpg")));
        assert_eq!(folder.find("b.jpg"), Found::Missing(Some(path("b.png"))));
        assert_eq!(folder.find("sub/c.png"), Found::Missing(Some(path("sub/c.jpg"))));
        assert_eq!(folder.find("cam2/d.jpg"), Found::Missing(Some(path("d.jpg"))), "told, but not taken");
        assert_eq!(folder.find("e.jpg"), Found::Missing(None));
        assert_eq!(folder.find(""), Found::Missing(None));
        assert_eq!(folder.with_stem("", "A"), [path("A.jpg"), path("a.jpg")]);
    }

    #[test]
    fn the_hint_names_the_path_that_exists() {
        let (dir, _) = folder(&["Data/Train.json"]);
        let hint = |name: &str| hint(&dir.path().join(name));
        assert_eq!(hint("Data/train.json"), Some(format!("there is {}", dir.path().join("Data/Train.json").display())));
        assert!(hint("data\\train.json").unwrap().ends_with("Train.json"));
        assert_eq!(hint("Data/val.json"), None);
    }
}
