//! Which image of an annotation file an input of `foveal predict` is, and the names of the images that it draws. Both
//! go by paths: images of different folders may have the same name.

use crate::console::note;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use foveal_base::names::folded;
use foveal_coco::{CocoFile, Image};

/// Image ids for `--coco`: those of the annotations whose paths the inputs have, if annotations are given; else the
/// numbers in the file names, if every name is a different number; else 1, 2, ….
///
/// # Errors
/// If the annotations cannot be read, or the image of an input is not among them or is ambiguous.
pub(crate) fn image_ids(files: &[PathBuf], annotations: Option<&Path>) -> Result<HashMap<PathBuf, i64>> {
    if let Some(path) = annotations {
        return ids_of_annotations(files, path);
    }
    let number = |file: &PathBuf| file.file_stem()?.to_str()?.parse::<i64>().ok();
    let numbers: Option<Vec<i64>> = files.iter().map(number).collect();
    let unique = |numbers: &Vec<i64>| numbers.iter().collect::<HashSet<_>>().len() == files.len();
    let ids = match numbers.filter(unique) {
        Some(ids) => {
            note!("--coco: image ids are the numbers in the file names; --annotations FILE reads them from a file");
            ids
        }
        None => {
            let count = files.len();
            note!("--coco: image ids are 1 to {count} in input order; --annotations FILE reads them from a file");
            (1..).take(count).collect()
        }
    };
    Ok(files.iter().cloned().zip(ids).collect())
}

/// The ids of the images whose `file_name` is the end of the path of an input.
fn ids_of_annotations(files: &[PathBuf], annotations: &Path) -> Result<HashMap<PathBuf, i64>> {
    let file = CocoFile::read_names(annotations)?;
    let images = Images::new(&file.dataset.images);
    match_all(files, &images).map_err(|error| {
        let bad = file.bad.described.first().map_or_else(String::new, |bad| {
            format!("; {} of its records cannot be read, first: {} ({})", file.bad.total(), bad.message, bad.place)
        });
        anyhow!("{}: {error}{bad}", annotations.display())
    })
}

fn match_all(files: &[PathBuf], images: &Images<'_>) -> Result<HashMap<PathBuf, i64>> {
    let matches: Vec<Match> = files.iter().map(|input| images.of(input)).collect::<Result<_>>()?;
    // The folders that file names with folders are relative to.
    let roots: HashSet<&Path> = matches.iter().filter(|m| m.components > 1).map(|m| m.root.as_path()).collect();
    let mut ids = HashMap::with_capacity(files.len());
    let mut inputs: HashMap<i64, &PathBuf> = HashMap::with_capacity(files.len());
    for (input, Match { image, root, longer, .. }) in files.iter().zip(&matches) {
        if let Some(longer) = longer
            && !roots.contains(root.as_path())
        {
            bail!(ambiguous(input, image, longer));
        }
        if let Some(first) = inputs.insert(image.id, input) {
            bail!(
                "the inputs {} and {} both could be image {}, whose file name is {:?}; expected file names with the \
                 folders of the images, or inputs of one folder only",
                first.display(),
                input.display(),
                image.id,
                image.file_name
            );
        }
        ids.insert(input.clone(), image.id);
    }
    Ok(ids)
}

fn ambiguous(input: &Path, one: &Image, two: &Image) -> String {
    format!(
        "the input {} could be image {} (file name {:?}) or image {} (file name {:?}); expected one image with this \
         path",
        input.display(),
        one.id,
        one.file_name,
        two.id,
        two.file_name
    )
}

/// The image that an input is.
struct Match<'a> {
    image: &'a Image,
    /// Number of components of the name of the image.
    components: usize,
    /// The folder that the name of the image is relative to, if the input is this image.
    root: PathBuf,
    /// An image of the same last component in a folder that the input is not in.
    longer: Option<&'a Image>,
}

/// The images of an annotation file by the last component of their names.
struct Images<'a> {
    by_last: HashMap<String, Vec<Named<'a>>>,
}

/// An image and the components of its name.
struct Named<'a> {
    image: &'a Image,
    /// The components as they stand.
    exact: Vec<String>,
    /// The components without case, with composed letters and without percent-encoding.
    folded: Vec<String>,
}

impl<'a> Images<'a> {
    fn new(images: &'a [Image]) -> Self {
        let mut by_last: HashMap<String, Vec<Named<'a>>> = HashMap::new();
        for image in images {
            let named = Named { image, exact: components(&image.file_name), folded: folded(&image.file_name) };
            if let Some(last) = named.folded.last() {
                by_last.entry(last.clone()).or_default().push(named);
            }
        }
        Self { by_last }
    }

    /// The image whose name is the end of the path of an input. Exact names come before names that are equal apart from
    /// case, composed letters and percent-encoding, and longer names before shorter ones.
    ///
    /// # Errors
    /// If there is no such image, or two images could be meant.
    fn of(&self, input: &Path) -> Result<Match<'a>> {
        let absolute = std::path::absolute(input).unwrap_or_else(|_| input.to_owned());
        let text = absolute.to_string_lossy();
        let (exact, alike) = (components(&text), folded(&text));
        let candidates = alike.last().and_then(|last| self.by_last.get(last)).map_or(&[][..], Vec::as_slice);
        let tests: [&dyn Fn(&Named) -> bool; 2] =
            [&|named| exact.ends_with(&named.exact), &|named| alike.ends_with(&named.folded)];
        for is_end in tests {
            let fitting = || candidates.iter().filter(|named| is_end(named));
            let longest = fitting().map(|named| named.folded.len()).max().unwrap_or(0);
            let mut longest_fitting = fitting().filter(|named| named.folded.len() == longest);
            match (longest_fitting.next(), longest_fitting.next()) {
                (Some(one), Some(two)) => bail!(ambiguous(input, one.image, two.image)),
                (Some(one), None) => {
                    let longer = candidates.iter().find(|named| named.folded.len() > longest);
                    let root = absolute.ancestors().nth(longest).unwrap_or(Path::new("")).to_owned();
                    return Ok(Match { image: one.image, components: longest, root, longer: longer.map(|n| n.image) });
                }
                (None, _) => {}
            }
        }
        let near = candidates.first().map_or_else(String::new, |Named { image, .. }| {
            format!("; image {} has the file name {:?}", image.id, image.file_name)
        });
        bail!(
            "no image has a file name that is the end of the path {}{near}. Folders in file names count: the last part \
             of a path alone does not identify an image",
            input.display()
        )
    }
}

fn components(name: &str) -> Vec<String> {
    name.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

/// The names of drawn images, relative to the folder of `--draw`: the stem of the input with the ending `.jpg`. Inputs
/// with the same stem get the folders that distinguish them, then their whole file names, and numbers as the last
/// resort.
pub(crate) fn drawn_names(files: &[PathBuf]) -> HashMap<PathBuf, PathBuf> {
    let stem = |path: &PathBuf| PathBuf::from(path.file_stem().unwrap_or_default());
    let shared = shared_folder(files);
    let in_folder = |path: &PathBuf, name: PathBuf| match path.parent().and_then(|p| p.strip_prefix(&shared).ok()) {
        // A folder above the inputs would lead out of the folder of drawn images.
        Some(folder) if folder.components().all(|c| matches!(c, std::path::Component::Normal(_))) => folder.join(name),
        _ => name,
    };
    let proposals: [&dyn Fn(&PathBuf) -> PathBuf; 3] =
        [&|path| stem(path), &|path| in_folder(path, stem(path)), &|path| {
            in_folder(path, PathBuf::from(path.file_name().unwrap_or_default()))
        }];
    let mut names: HashMap<PathBuf, PathBuf> = HashMap::with_capacity(files.len());
    let mut taken: HashSet<String> = HashSet::new();
    let mut left: Vec<&PathBuf> = files.iter().collect();
    for propose in proposals {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for path in &left {
            *counts.entry(key(&propose(path))).or_default() += 1;
        }
        left.retain(|path| {
            let name = propose(path);
            let free = counts[&key(&name)] == 1 && taken.insert(key(&name));
            if free {
                names.insert((*path).clone(), with_ending(&name));
            }
            !free
        });
    }
    for path in left {
        let stem = stem(path);
        let mut number = 2;
        let numbered = |number: usize| {
            let mut name = stem.clone().into_os_string();
            name.push(format!("-{number}"));
            PathBuf::from(name)
        };
        while !taken.insert(key(&numbered(number))) {
            number += 1;
        }
        names.insert(path.clone(), with_ending(&numbered(number)));
    }
    names
}

/// Names that a file system could take for the same are equal in this form.
fn key(name: &Path) -> String {
    folded(&name.to_string_lossy()).join("/")
}

fn with_ending(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".jpg");
    PathBuf::from(name)
}

/// The deepest folder that contains all files.
fn shared_folder(files: &[PathBuf]) -> PathBuf {
    let mut parents = files.iter().map(|path| path.parent().unwrap_or(Path::new("")));
    let mut shared = parents.next().unwrap_or(Path::new("")).to_owned();
    for parent in parents {
        while !parent.starts_with(&shared) && shared.pop() {}
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(names: &[(i64, &str)]) -> Vec<Image> {
        names.iter().map(|&(id, name)| Image { id, file_name: name.to_owned(), width: 0, height: 0 }).collect()
    }

    fn ids(names: &[(i64, &str)], inputs: &[&str]) -> std::result::Result<Vec<i64>, String> {
        let images = images(names);
        let files: Vec<PathBuf> = inputs.iter().map(PathBuf::from).collect();
        let ids = match_all(&files, &Images::new(&images)).map_err(|error| error.to_string())?;
        Ok(files.iter().map(|file| ids[file]).collect())
    }

    #[test]
    fn images_are_matched_by_path() {
        let names =
            [(1, "cam1/0001.jpg"), (2, "cam2/0001.jpg"), (3, "0001.jpg"), (4, "Caf\u{e9} 1.JPG"), (5, "B\\2.jpg")];
        assert_eq!(ids(&names, &["data/cam1/0001.jpg", "/x/cam2/./0001.jpg"]), Ok(vec![1, 2]));
        assert_eq!(ids(&names, &["data/cam1/0001.jpg", "data/0001.jpg"]), Ok(vec![1, 3]), "both are in `data`");
        assert_eq!(ids(&names, &["x/cafe\u{301}%201.jpg", "y/b/2.jpg"]), Ok(vec![4, 5]));
        assert_eq!(ids(&[(1, "1.jpg"), (2, "2.jpg")], &["a/1.jpg", "b/2.jpg"]), Ok(vec![1, 2]));
    }

    #[test]
    fn another_folder_is_another_image() {
        let text = ids(&[(1, "cam1/0001.jpg")], &["cam2/0001.jpg"]).unwrap_err();
        assert!(text.contains("cam2/0001.jpg") && text.contains("\"cam1/0001.jpg\""), "{text}");
        assert!(ids(&[(1, "1.jpg")], &["2.jpg"]).unwrap_err().contains("no image"));
    }

    #[test]
    fn an_ambiguous_image_is_named_with_both_candidates() {
        let names = [(1, "a/x.jpg"), (2, "A/x.jpg"), (3, "y.jpg"), (4, "y.jpg"), (5, "z.jpg"), (6, "a/z.jpg")];
        assert_eq!(ids(&names, &["a/x.jpg"]), Ok(vec![1]), "the exact name decides");
        for (inputs, named) in [
            (&["a/X.jpg"][..], ["image 1", "image 2"]),
            (&["y.jpg"], ["image 3", "image 4"]),
            (&["b/z.jpg"], ["image 5", "image 6"]),
            (&["b/x/1.jpg", "c/x/1.jpg"], ["b/x/1.jpg", "c/x/1.jpg"]),
        ] {
            let names = [&names[..], &[(7, "x/1.jpg")]].concat();
            let text = ids(&names, inputs).unwrap_err();
            assert!(named.iter().all(|name| text.contains(name)), "{text}");
        }
    }

    #[test]
    fn drawn_images_have_names_of_their_own() {
        let files = ["in/a/1.jpg", "in/b/1.jpg", "in/2.png", "in/3.png", "in/3.jpg"].map(PathBuf::from);
        let names = drawn_names(&files);
        let drawn: Vec<&str> = files.iter().map(|file| names[file].to_str().unwrap()).collect();
        assert_eq!(drawn, ["a/1.jpg", "b/1.jpg", "2.jpg", "3.png.jpg", "3.jpg.jpg"]);
        let outside = ["../x/1.jpg", "y/1.jpg", "/z/1.jpg"].map(PathBuf::from);
        for name in drawn_names(&outside).values() {
            assert!(name.is_relative() && !name.to_str().unwrap().contains(".."), "{}", name.display());
        }
        assert_eq!(drawn_names(&outside).values().collect::<HashSet<_>>().len(), 3);
    }
}
