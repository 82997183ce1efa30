//! The files of a Pascal VOC folder: lists, annotation files, and the images that belong to them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use foveal_base::names::{Folder, Found, folded, list};
use foveal_base::text::read_data_text;

use super::notes::Notes;
use crate::FormatError;
use crate::defect::Defect;
use crate::images::{ENDINGS, entries_below};

/// The files of a Pascal VOC folder.
pub(super) struct Files {
    folder: PathBuf,
    annotations: Folder,
    images: Folder,
}

/// The image of an annotation file.
pub(super) struct ImageFile {
    pub path: PathBuf,
    /// Name relative to `JPEGImages`.
    pub name: String,
    pub source: Source,
}

/// What decided on the image of an annotation file.
pub(super) enum Source {
    /// The name of the annotation file, which `<filename>` does not contradict.
    Stem,
    /// The name of the annotation file, though `<filename>` names another file.
    Against(String),
    /// The `<filename>`, because no image has the name of the annotation file.
    FileName,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            annotations: Folder::new(folder.join("Annotations")),
            images: Folder::new(folder.join("JPEGImages")),
        }
    }

    /// The names of all annotation files without extension, sorted. Those in subfolders begin with the folder.
    pub(super) fn all(&self) -> Result<Vec<String>, FormatError> {
        let annotations = self.folder.join("Annotations");
        let mut stems = Vec::new();
        let is_annotation = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"));
        for path in entries_below(&annotations, is_annotation)? {
            let stem = path.with_extension("");
            stems.push(stem.strip_prefix(&annotations).unwrap_or(&stem).to_string_lossy().into_owned());
        }
        stems.sort();
        Ok(stems)
    }

    /// The names that a list contains, each once.
    ///
    /// A line is a name, which may have spaces, or a name and a flag (-1, 0 or 1), which VOC uses in lists for one
    /// class. The annotation files decide which of both a line is.
    pub(super) fn split(&mut self, split: &str, notes: &mut Notes) -> Result<Vec<String>, FormatError> {
        let path = self.folder.join("ImageSets/Main").join(format!("{split}.txt"));
        let text = read_data_text(&path).map_err(|source| FormatError::Io { path: path.clone(), source })?;
        let mut stems = Vec::new();
        let mut seen = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            let whole = line.trim();
            if whole.is_empty() {
                continue;
            }
            let mut stem = whole;
            if let Some((name, flag)) = whole.rsplit_once(char::is_whitespace)
                && ["-1", "0", "1"].contains(&flag)
            {
                let name = name.trim_end();
                match (self.annotation(whole), self.annotation(name)) {
                    (Ok(one), Ok(other)) => {
                        let reason = format!(
                            "line {}: {whole:?} could mean {} or, with a flag, {}; rename one of them",
                            number + 1,
                            one.display(),
                            other.display()
                        );
                        return Err(FormatError::Convert { path, reason });
                    }
                    (Ok(_), Err(_)) => {}
                    (Err(_), _) => stem = name,
                }
            }
            if seen.insert(stem.to_owned()) {
                stems.push(stem.to_owned());
            } else {
                notes.repeated(&path, number + 1, stem);
            }
        }
        Ok(stems)
    }

    /// The annotation file with a name.
    ///
    /// # Errors
    /// The defect if there is none, or if several files could be meant.
    pub(super) fn annotation(&mut self, stem: &str) -> Result<PathBuf, Defect> {
        let name = format!("{stem}.xml");
        let reason = match self.annotations.find(&name) {
            Found::Exact(path) | Found::Alike(path) => return Ok(path),
            Found::Several(several) => format!("the name could mean {}", list(&several)),
            Found::Missing(near) => {
                let near = near.map_or_else(String::new, |near| format!("; there is {}", near.display()));
                format!("the annotation file does not exist{near}")
            }
        };
        Err(Defect::of(&self.folder.join("Annotations").join(name), reason))
    }

    /// The image of the annotation file `xml` with the name `stem`, whose `<filename>` is `inside`.
    ///
    /// # Errors
    /// [`FormatError::Convert`] if several images could be meant. The inner error is the defect if there is no image.
    pub(super) fn image(
        &mut self,
        stem: &str,
        xml: &Path,
        inside: Option<&str>,
    ) -> Result<Result<ImageFile, Defect>, FormatError> {
        let base = inside.and_then(|name| name.rsplit(['/', '\\']).next()).filter(|name| !name.is_empty());
        let mut own = self.with_stem(stem);
        if own.len() > 1
            && let Some(named) = base.and_then(|base| own.iter().find(|path| path.ends_with(base))).cloned()
        {
            own = vec![named];
        }
        match own.as_slice() {
            [path] => {
                let last = stem.rsplit(['/', '\\']).next().unwrap_or(stem);
                let agrees = base.is_none_or(|base| folded_stem(base) == folded(last) || folded(base) == folded(last));
                let source = if agrees { Source::Stem } else { Source::Against(base.unwrap_or_default().to_owned()) };
                Ok(Ok(self.found(path.clone(), source)))
            }
            [] => Ok(self.by_file_name(stem, xml, base)),
            several => Err(FormatError::Convert {
                path: xml.to_owned(),
                reason: format!(
                    "{} have the name of this file, and its <filename> names none of them; expected one image",
                    list(several)
                ),
            }),
        }
    }

    /// The images with the name of an annotation file: exactly, else apart from case and composed letters.
    fn with_stem(&mut self, stem: &str) -> Vec<PathBuf> {
        let (folder, last) = stem.rsplit_once(['/', '\\']).unwrap_or(("", stem));
        let is_image = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending)))
        };
        let alike: Vec<PathBuf> = self.images.with_stem(folder, last).into_iter().filter(is_image).collect();
        let exact: Vec<PathBuf> =
            alike.iter().filter(|path| path.file_stem().is_some_and(|s| s == last)).cloned().collect();
        if exact.is_empty() { alike } else { exact }
    }

    fn by_file_name(&mut self, stem: &str, xml: &Path, base: Option<&str>) -> Result<ImageFile, Defect> {
        let missing = format!("found no image {stem} ({}) in {}", ENDINGS.join(", "), self.images_folder().display());
        let reason = match base.map(|base| (base, self.images.find(base))) {
            None => missing,
            Some((base, Found::Exact(path) | Found::Alike(path))) => {
                let other = path.file_stem().and_then(|stem| self.annotation(&stem.to_string_lossy()).ok());
                match other {
                    None => return Ok(self.found(path, Source::FileName)),
                    Some(other) => {
                        format!("{missing}; the <filename> {base} is the image of {}", other.display())
                    }
                }
            }
            Some((base, Found::Several(several))) => {
                format!("{missing}; the <filename> {base} could mean {}", list(&several))
            }
            Some((base, Found::Missing(_))) => format!("{missing}, and no image {base}, which is its <filename>"),
        };
        Err(Defect::of(xml, reason))
    }

    fn images_folder(&self) -> PathBuf {
        self.folder.join("JPEGImages")
    }

    fn found(&self, path: PathBuf, source: Source) -> ImageFile {
        let name = path.strip_prefix(self.images_folder()).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        ImageFile { path, name, source }
    }
}

/// The folded components of a file name without its extension.
fn folded_stem(name: &str) -> Vec<String> {
    folded(name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}
