//! `foveal data tile`: cuts images to tiles.

use anyhow::{Result, bail};
use foveal_image::ImageLimit;
use foveal_sets::{CutRule, TileFormat, TileOptions, tile};

use super::sets::{finish, of_sets, open};
use crate::args::Common;
use crate::config;
use crate::outputs::Files;
use crate::sets_args::{LeftOverArg, TileArgs, TileFormatArg};

/// Writes the tiles and their annotations, and prints the counts.
///
/// # Errors
/// If the folder for the tiles is not empty, the data set or an image cannot be read, or a file cannot be written.
pub(super) fn run(args: &TileArgs, common: &Common) -> Result<u8> {
    let (annotations, images) = (args.out.join("annotations.json"), args.out.join("images"));
    Files::new()
        .read("annotation file", [&args.file])
        .read_images([&args.images])
        .write("--out", [&annotations])
        .write("--json", &args.change.json)
        .check()?;
    let taken = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        bail!("{}: the folder exists and is not empty; expected a new or empty folder", args.out.display());
    }
    let options = TileOptions {
        size: args.size,
        overlap: args.overlap,
        min_area: args.min_area,
        cut: match args.cut {
            LeftOverArg::Crowd => CutRule::Crowd,
            LeftOverArg::Drop => CutRule::Drop,
        },
        empty: args.empty,
        format: match args.format {
            TileFormatArg::Same => TileFormat::Same,
            TileFormatArg::Png => TileFormat::Png,
            TileFormatArg::Jpeg => TileFormat::Jpeg,
        },
        quality: args.quality,
        limit: ImageLimit { max_bytes: config::load(None, &common.set)?.data.max_image_bytes },
        seed: args.seed,
    };
    let set = open(&args.file, &args.change)?;
    let tiled = tile(set, &args.images, &images, &options).map_err(of_sets)?;
    finish(&annotations, &tiled.dataset, &tiled.report, &args.change)
}
