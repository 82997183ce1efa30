//! The arguments of the commands of `foveal data` that change whole data sets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::convert_args::OnErrorArg;

/// Subcommands of `foveal data` that write other COCO data sets.
#[derive(Subcommand, Debug)]
pub(crate) enum SetsCommand {
    /// Divide a COCO data set into parts, stratified by class, without cutting groups of images
    Split(PartsArgs),
    /// Join several COCO data sets, with their classes matched by name
    Merge(MergeArgs),
    /// Select images and objects of a COCO data set
    Subset(SubsetArgs),
    /// Rename, join and drop classes of a COCO data set
    Remap(RemapArgs),
    /// Cut the images of a COCO data set to tiles, with their objects
    Tile(TileArgs),
}

/// Options of all these commands.
#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    /// What to do about records that have no meaning, share an id, or belong to no image or class of the file: end with
    /// an error, or leave them out
    #[arg(long, value_name = "RULE", default_value = "fail")]
    pub on_error: OnErrorArg,
    /// Write the counts as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal data split`.
#[derive(Args, Debug)]
pub(crate) struct PartsArgs {
    /// COCO annotations of all images
    pub file: PathBuf,
    /// Names of the parts and their shares, which add up to 1
    #[arg(long, value_name = "NAME=SHARE,...", value_delimiter = ',', default_value = "train=0.8,val=0.2")]
    pub parts: Vec<String>,
    /// Keep images together whose file names agree in what a regular expression matches, or its groups in parentheses
    /// if it has some, such as '^(.*)_[0-9]+' for the frames of a video
    #[arg(long, value_name = "REGEX", conflicts_with = "group_by")]
    pub group: Option<String>,
    /// Keep images together whose records have the same value of this key, such as video_id
    #[arg(long, value_name = "KEY")]
    pub group_by: Option<String>,
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Folder to write NAME.json of each part to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `foveal data merge`.
#[derive(Args, Debug)]
pub(crate) struct MergeArgs {
    /// COCO annotations to join; ids and classes of the first ones are kept
    #[arg(required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// COCO annotations to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Folder of the images of each file, in the same order; the file names become relative to the folder that contains
    /// all of them
    #[arg(long, value_name = "DIR,...", value_delimiter = ',', conflicts_with = "prefix")]
    pub images: Vec<PathBuf>,
    /// Text to put before the file names of each file, in the same order, such as day/,night/
    #[arg(long, value_name = "TEXT,...", value_delimiter = ',')]
    pub prefix: Vec<String>,
    /// Join classes whose names differ only in case, Unicode form, spaces, underscores and hyphens
    #[arg(long)]
    pub join_alike: bool,
    /// What to do about an image that several files contain
    #[arg(long, value_name = "RULE", default_value = "error")]
    pub same_image: SameImageArg,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What happens to an image that several files contain.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SameImageArg {
    /// End with an error
    Error,
    /// Keep the objects of the first file
    First,
    /// Keep the objects of all files; one that two files contain is kept once
    BothObjects,
}

/// Arguments of `foveal data subset`.
#[derive(Args, Debug)]
pub(crate) struct SubsetArgs {
    /// COCO annotations to select from
    pub file: PathBuf,
    /// COCO annotations to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Ids of images
    #[arg(long, value_name = "ID,...", value_delimiter = ',', allow_hyphen_values = true)]
    pub ids: Vec<i64>,
    /// Glob pattern of file names (repeatable); images that match one are selected
    #[arg(long, value_name = "GLOB")]
    pub files: Vec<String>,
    /// Names of classes; objects of other classes are left out, so that they are background, and so are these classes
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Smallest size of objects: the square root of the area of the box, in pixels
    #[arg(long, value_name = "PIXELS", value_parser = size)]
    pub min_size: Option<f64>,
    /// Size in pixels that objects must be below
    #[arg(long, value_name = "PIXELS", value_parser = size)]
    pub max_size: Option<f64>,
    /// What becomes of objects of other sizes: left out, or crowd regions (ignored)
    #[arg(long, value_name = "RULE", default_value = "drop")]
    pub other_sizes: LeftOverArg,
    /// Leave out images without an object of the selection
    #[arg(long)]
    pub with_objects: bool,
    /// Number of images, chosen at random among those that are left
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What becomes of objects that are not selected, or mostly cut off.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftOverArg {
    /// Crowd regions, which neither training nor evaluation counts
    Crowd,
    /// Left out, so that they are background
    Drop,
}

/// Arguments of `foveal data remap`.
#[derive(Args, Debug)]
pub(crate) struct RemapArgs {
    /// COCO annotations whose classes are changed
    pub file: PathBuf,
    /// COCO annotations to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Rename a class (repeatable); all changes are made at once, so that a=b and b=a exchange two names
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// Make one class of several (repeatable)
    #[arg(long, value_name = "A,B=NEW")]
    pub join: Vec<String>,
    /// Drop a class and its objects, which are background then (repeatable)
    #[arg(long, value_name = "NAME")]
    pub drop: Vec<String>,
    /// File with changes: a table with the columns old,new, or a JSON object {"old": "new"}; an empty name or null
    /// drops the class
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `foveal data tile`.
#[derive(Args, Debug)]
pub(crate) struct TileArgs {
    /// COCO annotations of the images
    pub file: PathBuf,
    /// Folder of the images
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Folder to write annotations.json and images/ to; must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Width and height of a tile in pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=16_384))]
    pub size: u32,
    /// Share of a tile that the next one covers again, from 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = overlap)]
    pub overlap: f64,
    /// Smallest share of the area of an object that has to be on a tile to make it an object of the tile, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    pub min_area: f64,
    /// What becomes of an object of which less is on the tile: a crowd region (ignored), or left out
    #[arg(long, value_name = "RULE", default_value = "crowd")]
    pub cut: LeftOverArg,
    /// Share of the tiles without objects that are kept, chosen at random
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub empty: f64,
    /// Format of the tiles
    #[arg(long, value_name = "FORMAT", default_value = "same")]
    pub format: TileFormatArg,
    /// Quality of tiles in JPEG format, from 1 to 100
    #[arg(long, value_name = "N", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Seed of the choice of tiles without objects
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// The format of tiles.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileFormatArg {
    /// That of the image; WebP is written without loss
    Same,
    /// PNG, without loss
    Png,
    /// JPEG
    Jpeg,
}

/// Parses a size in pixels.
fn size(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "expected a number of pixels, 0 or more")
}

/// Parses a share.
fn share(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "expected a number from 0 to 1")
}

/// Parses the share of a tile that the next one covers again. Above 0.9, there would be a hundred times as many tiles.
fn overlap(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=0.9).contains(&value), "expected a number from 0 to 0.9")
}

fn number(text: &str, fits: fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| fits(*value)).ok_or_else(|| expected.to_owned())
}
