//! The arguments of `foveal data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::SplitArg;
use crate::convert_args::ConvertCommand;
use crate::sets_args::SetsCommand;

/// Subcommands of `foveal data`.
#[derive(Subcommand, Debug)]
pub(crate) enum DataCommand {
    /// Check data sets and list their problems
    Check(CheckArgs),
    /// Count images, objects and classes
    Stats(StatsArgs),
    /// Draw training samples as the network gets them, with their boxes, as a contact sheet
    Show(ShowArgs),
    /// Convert annotations of other formats to COCO's JSON format, and COCO's to others
    #[command(subcommand)]
    Convert(ConvertCommand),
    /// Write the generated `shapes` data set as a COCO folder
    Shapes {
        /// Folder to write; must be new or empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    #[command(flatten)]
    Sets(SetsCommand),
}

/// The data sets of `foveal data check` and `foveal data stats`.
#[derive(Args, Debug)]
pub(crate) struct DataSetArgs {
    /// Configuration file (TOML)
    #[arg(required_unless_present = "annotations")]
    pub config: Option<PathBuf>,
    /// COCO annotations, instead of a configuration
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub annotations: Option<PathBuf>,
    /// Folder of the images; without it, only the annotations are checked
    #[arg(long, value_name = "DIR", requires = "annotations")]
    pub images: Option<PathBuf>,
    /// Data set of the configuration [default: both]
    #[arg(long, conflicts_with = "annotations")]
    pub split: Option<SplitArg>,
    /// Write the result as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal data show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Configuration file (TOML)
    pub config: PathBuf,
    /// Contact sheet (.png or .jpg) or page (.html) to write
    ///
    /// The images are those of the first batches of an epoch, augmented, resized and padded; only the normalisation is
    /// undone, so that padding has the mean colour. Regions that training ignores are hatched. On a page, the boxes can
    /// be shown for one class, and a click enlarges an image.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Number of images
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub count: u32,
    /// Epoch from which the samples are, from 1 to train.epochs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub epoch: u32,
    /// Seed of the order of the images and of their augmentation [default: train.seed]
    #[arg(long, value_name = "SEED", conflicts_with = "val")]
    pub seed: Option<u64>,
    /// Show the validation set, without augmentation and in its own order
    #[arg(long, conflicts_with = "epoch")]
    pub val: bool,
    /// Only images with an object of this class; may be given several times
    #[arg(long = "class", value_name = "NAME")]
    pub classes: Vec<String>,
    /// Put each image as it is stored, with its boxes, beside the sample
    #[arg(long)]
    pub original: bool,
    /// Also draw the positive anchors, with thin lines (on a contact sheet)
    #[arg(long)]
    pub positives: bool,
    /// Images per row [default: as many as give about as many rows as columns]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=400))]
    pub columns: Option<u32>,
    /// Longest side in pixels that an image has on the sheet; all images have the same scale
    #[arg(long, value_name = "PIXELS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(32..=4096))]
    pub side: u32,
    /// Write the objects of each image and the times of the transforms as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal data check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub set: DataSetArgs,
    /// Decode every image, to find damaged pixels [default: if the data sets have fewer than 2000 images]
    #[arg(long, overrides_with = "no_decode")]
    pub decode: bool,
    /// Check only the headers and the structure of the image files
    #[arg(long, overrides_with = "decode")]
    pub no_decode: bool,
    /// Also write a page with the findings and crops of the images (.html)
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Arguments of `foveal data stats`.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub set: DataSetArgs,
    /// Also write a page with charts (.html)
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
