//! The arguments of `foveal loss`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::SplitArg;

/// Subcommands of `foveal loss`.
#[derive(Subcommand, Debug)]
pub(crate) enum LossCommand {
    /// Print the positives' share of the loss for given counts and probabilities
    Share(ShareArgs),
    /// Print the initial bias of the class layer and the loss before the first step for given priors
    Prior(PriorArgs),
    /// Propose a prior, alpha and gamma, and remedies for rare classes, from the counts of a data set
    Suggest(SuggestArgs),
}

/// Arguments of `foveal loss share`.
#[derive(Args, Debug)]
pub(crate) struct ShareArgs {
    /// Number of positive pairs of anchor and class
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = count)]
    pub positives: f64,
    /// Number of negative pairs of anchor and class
    #[arg(long, value_name = "N", default_value_t = 1e6, value_parser = count)]
    pub negatives: f64,
    /// Probability p_t that the network gives to the correct answer for each positive pair
    #[arg(long, value_name = "P", default_value_t = 0.01, value_parser = probability)]
    pub p_positive: f64,
    /// Probability p_t that the network gives to the correct answer for each negative pair
    #[arg(long, value_name = "P", default_value_t = 0.99, value_parser = probability)]
    pub p_negative: f64,
    #[command(flatten)]
    pub weighting: Weighting,
    /// Draw curves of the loss and the gradient against p_t, for several gammas, to FILE (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub draw: Option<PathBuf>,
    /// Write the shares as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal loss prior`.
#[derive(Args, Debug)]
pub(crate) struct PriorArgs {
    /// Prior probabilities (repeatable or comma-separated)
    #[arg(
        long,
        value_name = "P",
        value_delimiter = ',',
        default_values_t = [0.5, 0.1, 0.01],
        value_parser = probability
    )]
    pub pi: Vec<f64>,
    /// Number of anchors that take part in the loss
    #[arg(long, value_name = "N", default_value_t = 1e5, value_parser = count)]
    pub anchors: f64,
    /// Number of positive anchors
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = count)]
    pub positives: f64,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 80.0, value_parser = count)]
    pub classes: f64,
    #[command(flatten)]
    pub weighting: Weighting,
    /// Write the table as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options that set the constants of the balanced and the focal loss.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Weighting {
    /// Weight of positives; negatives have the weight 1 - alpha
    #[arg(long, value_name = "ALPHA", default_value_t = 0.25, value_parser = fraction)]
    pub alpha: f64,
    /// Exponent of the focal factor
    #[arg(long, value_name = "GAMMA", default_value_t = 2.0, value_parser = exponent)]
    pub gamma: f64,
}

/// Arguments of `foveal loss suggest`.
#[derive(Args, Debug)]
pub(crate) struct SuggestArgs {
    /// Configuration file (TOML)
    pub config: PathBuf,
    /// COCO annotations to count; images are not needed [default: those of the configuration]
    #[arg(long, value_name = "FILE")]
    pub annotations: Option<PathBuf>,
    /// Data set of the configuration
    #[arg(long, default_value = "train", conflicts_with = "annotations")]
    pub split: SplitArg,
    /// Match the anchors of at most N images; objects and classes are counted on all images
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Write the counts and proposals as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Parses a number that `fits` accepts; the error message names what was `expected`.
fn number(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if fits(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

fn count(text: &str) -> Result<f64, String> {
    number(text, |v| v > 0.0 && v.is_finite(), "a finite number above 0")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |v| v > 0.0 && v < 1.0, "a probability above 0 and below 1")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text, |v| (0.0..=1.0).contains(&v), "a number from 0 to 1")
}

fn exponent(text: &str) -> Result<f64, String> {
    number(text, |v| v >= 0.0 && v.is_finite(), "a finite number, 0 or more")
}
