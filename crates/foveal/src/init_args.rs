//! The arguments of `foveal init`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `foveal init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// COCO annotations of the training images, or of all images if there is no --val
    #[arg(long, value_name = "FILE")]
    pub train: PathBuf,
    /// Folder of the images
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// COCO annotations of the validation images [default: a fifth of the images of --train is held out; the two parts
    /// are written beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub val: Option<PathBuf>,
    /// Folder of the validation images [default: --images]
    #[arg(long, value_name = "DIR", requires = "val")]
    pub val_images: Option<PathBuf>,
    /// Weights to start from: a backbone (.pth or .safetensors) or a checkpoint of foveal [default: random weights]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Minutes that the training may take on this device, with its evaluations; training steps are timed for some
    /// seconds to choose the size of the images and the number of epochs [default: as long as the data set needs]
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub minutes: Option<f64>,
    /// Seed of the training and of the division into training and validation images
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Configuration to write (TOML)
    #[arg(short, long, value_name = "CONFIG", default_value = "mine.toml")]
    pub output: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    /// Write the measurements and the settings with their reasons as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Parses a number of minutes.
fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of minutes above 0".to_owned()),
    }
}
