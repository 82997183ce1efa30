//! The image files that are cut.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use foveal_base::names::{Folder, Found, list};
use foveal_coco::{Image, Whole};
use foveal_image::{FileSize, Format, ImageError};
use rayon::prelude::*;

use super::TileOptions;
use super::grid::Window;
use crate::SetsError;

/// An image file that is cut.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub image_id: i64,
    pub path: PathBuf,
    /// Whether the boxes refer to the pixels as stored, without the EXIF orientation.
    pub stored: bool,
    /// Width and height in pixels, as the boxes refer to them.
    pub size: (u32, u32),
    /// Bytes of the largest buffer that decoding needs.
    pub bytes: u64,
    /// The format of the tiles.
    pub format: Format,
    /// What the names of the tiles begin with.
    stem: String,
    /// What they end with, with its dot.
    ending: String,
}

impl Source {
    /// The file name of a tile, with `/` between folders.
    pub(super) fn tile_name(&self, window: &Window) -> String {
        format!("{}_x{}_y{}{}", self.stem, window.x, window.y, self.ending)
    }
}

/// Finds the image files and reads their sizes. Files with names of other systems are found as in training.
///
/// # Errors
/// [`SetsError::Name`], [`SetsError::Image`] or [`SetsError::Size`] for the first image that cannot be cut.
pub(super) fn find(
    images: &[Whole<Image>],
    folder: &Path,
    options: &TileOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Source>, SetsError> {
    let mut names = Folder::new(folder);
    let mut paths = Vec::with_capacity(images.len());
    for image in images {
        let record = &image.record;
        if !is_inside(&plain(&record.file_name)) {
            return Err(SetsError::Name { image_id: record.id, name: record.file_name.clone() });
        }
        let as_is = folder.join(&record.file_name);
        paths.push(match names.find(&record.file_name) {
            Found::Exact(path) | Found::Alike(path) => (path, String::new()),
            Found::Several(several) => (as_is, format!("; there are {}", list(&several))),
            Found::Missing(Some(near)) => (as_is, format!("; there is {}", near.display())),
            Found::Missing(None) => (as_is, String::new()),
        });
    }
    let open = |(image, (path, hint)): (&Whole<Image>, &(PathBuf, String))| open(&image.record, path, hint, options);
    let mut sources: Vec<Source> = images.par_iter().zip(&paths).map(open).collect::<Result<_, SetsError>>()?;
    let stored = sources.iter().filter(|source| source.stored).count();
    if stored > 0 {
        warnings.push(format!(
            "the boxes of {stored} images refer to the pixels as stored, by the sizes in the annotation file; their EXIF \
             orientation is not applied"
        ));
    }
    tell_apart(&mut sources);
    Ok(sources)
}

fn open(image: &Image, path: &Path, hint: &str, options: &TileOptions) -> Result<Source, SetsError> {
    let image_id = image.id;
    let error = |source: ImageError| SetsError::Image { image_id, source, hint: hint.to_owned() };
    let FileSize { width, height, stored_width, stored_height, bytes } =
        options.limit.file_size(path).map_err(error)?;
    let own = Format::of_file(path).map_err(error)?.unwrap_or(Format::Png);
    let said = (image.width, image.height);
    let is_said = said.0 > 0 && said.1 > 0;
    let stored = is_said && said != (width, height) && said == (stored_width, stored_height);
    if is_said && said != (width, height) && !stored {
        let path = path.to_owned();
        return Err(SetsError::Size { image_id, path, expected: said, found: (width, height) });
    }
    let format = options.format.of(own);
    let name = plain(&image.file_name);
    let (stem, ending) = parts(&name);
    // The ending of the image stays if it is one of its format.
    let ending = if format == own && !ending.is_empty() { ending } else { super::write::ending(format) };
    Ok(Source {
        image_id,
        path: path.to_owned(),
        stored,
        size: if stored { (stored_width, stored_height) } else { (width, height) },
        bytes,
        format,
        stem: stem.to_owned(),
        ending: ending.to_owned(),
    })
}

/// A file name with the separators of other systems replaced, as they are when a file is looked up.
fn plain(name: &str) -> String {
    name.replace('\\', "/")
}

/// Whether a file name leads to a place in the folder that it is relative to, also on other systems.
fn is_inside(name: &str) -> bool {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let has_name = Path::new(name).file_name().is_some();
    has_name && !name.contains('\0') && Path::new(name).components().all(is_plain)
}

/// A file name without its ending, and the ending with its dot.
fn parts(name: &str) -> (&str, &str) {
    let start = name.rfind('/').map_or(0, |at| at + 1);
    match name[start..].rfind('.') {
        Some(dot) if dot > 0 => name.split_at(start + dot),
        _ => (name, ""),
    }
}

/// Makes the names of tiles differ where images differ only in their endings, or have the same name: the ending becomes
/// a part of the name, or the id of the image does.
fn tell_apart(sources: &mut [Source]) {
    let key = |source: &Source| (source.stem.to_lowercase(), source.ending.to_lowercase());
    for round in 0..2 {
        let mut counts: HashMap<(String, String), usize> = HashMap::new();
        sources.iter().for_each(|source| *counts.entry(key(source)).or_default() += 1);
        for source in sources.iter_mut().filter(|source| counts[&key(source)] > 1) {
            let ending = source.path.extension().map(|ending| ending.to_string_lossy().into_owned());
            source.stem += &match ending {
                Some(ending) if round == 0 => format!(".{ending}"),
                _ => format!("_{}", source.image_id),
            };
        }
    }
}
