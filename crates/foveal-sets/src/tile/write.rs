//! Writing of tiles as image files.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use foveal_base::write_atomically;
use foveal_image::{ByteBudget, Format, ImageError, ImageLimit, RgbImage};
use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use rayon::prelude::*;

use super::grid::Window;
use super::source::Source;
use super::{Tile, TileOptions};
use crate::SetsError;

/// Number of bytes of pixels that are decoded at the same time. A larger image is decoded alone.
const DECODED_BYTES: u64 = 512 * 1024 * 1024;

/// The format of tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TileFormat {
    /// That of the image. WebP is written without loss.
    #[default]
    Same,
    /// PNG, without loss.
    Png,
    /// JPEG.
    Jpeg,
}

impl TileFormat {
    /// The format of the tiles of an image of this format.
    pub(super) fn of(self, own: Format) -> Format {
        match self {
            Self::Same => own,
            Self::Png => Format::Png,
            Self::Jpeg => Format::Jpeg,
        }
    }
}

/// The usual ending of the names of files of a format.
pub(super) fn ending(format: Format) -> &'static str {
    match format {
        Format::Jpeg => ".jpg",
        Format::Png => ".png",
        Format::WebP => ".webp",
        Format::Bmp => ".bmp",
    }
}

/// Writes the tiles of each image into the folder `out`.
///
/// # Errors
/// [`SetsError::Image`] for an image that cannot be decoded, [`SetsError::Write`] or [`SetsError::Io`] for a tile that
/// cannot be written.
pub(super) fn write(
    sources: &[Source],
    plan: &[Vec<Tile>],
    out: &Path,
    options: &TileOptions,
) -> Result<(), SetsError> {
    let folders: BTreeSet<_> = sources
        .iter()
        .zip(plan)
        .filter_map(|(source, tiles)| tiles.first().map(|tile| out.join(source.tile_name(&tile.window))))
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    for path in folders {
        std::fs::create_dir_all(&path).map_err(|source| SetsError::Io { what: "create the folder", path, source })?;
    }
    let budget = ByteBudget::new(DECODED_BYTES);
    sources.par_iter().zip(plan).filter(|(_, tiles)| !tiles.is_empty()).try_for_each(|(source, tiles)| {
        budget.with(source.bytes, || {
            let image = decode(source, options.limit)?;
            tiles.iter().try_for_each(|tile| {
                let path = out.join(source.tile_name(&tile.window));
                let bytes = encode(&image, &tile.window, source.format, options.quality);
                let bytes = bytes.map_err(|error| SetsError::Io {
                    what: "encode",
                    path: path.clone(),
                    source: std::io::Error::other(error),
                })?;
                Ok(write_atomically(&path, &bytes)?)
            })
        })
    })
}

fn decode(source: &Source, limit: ImageLimit) -> Result<RgbImage, SetsError> {
    let error = |error: ImageError| SetsError::Image { image_id: source.image_id, source: error, hint: String::new() };
    let image = if source.stored { limit.load_stored(&source.path) } else { limit.load_rgb(&source.path) };
    let image = image.map_err(error)?;
    if image.dimensions() != source.size {
        let (path, expected) = (source.path.clone(), source.size);
        return Err(SetsError::Size { image_id: source.image_id, path, expected, found: image.dimensions() });
    }
    Ok(image)
}

fn encode(image: &RgbImage, window: &Window, format: Format, quality: u8) -> image::ImageResult<Vec<u8>> {
    let Window { x, y, width, height } = *window;
    let tile = image::imageops::crop_imm(image, x, y, width, height).to_image();
    let mut bytes = Cursor::new(Vec::new());
    match format {
        Format::Jpeg => tile.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))?,
        Format::Png => tile.write_with_encoder(PngEncoder::new(&mut bytes))?,
        Format::WebP => tile.write_with_encoder(WebPEncoder::new_lossless(&mut bytes))?,
        Format::Bmp => tile.write_with_encoder(BmpEncoder::new(&mut bytes))?,
    }
    Ok(bytes.into_inner())
}
