//! The arguments of `foveal loss`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::Split;

/// What each class loss makes of an imbalance.
#[derive(Subcommand, Debug)]
pub enum LossCommand {
    /// The positives' share of the loss, for given counts and probabilities
    Share(ShareArgs),
    /// The class layer's bias and the first loss, for a prior
    Prior(PriorArgs),
    /// Start values for prior and loss, and what rare classes may need, from a data set's counts
    Suggest(SuggestArgs),
}

#[derive(Args, Debug)]
pub struct ShareArgs {
    /// Pairs of anchor and class whose object is there
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = count)]
    pub positives: f64,
    /// All other pairs
    #[arg(long, value_name = "N", default_value_t = 1e6, value_parser = count)]
    pub negatives: f64,
    /// Probability that each positive gives to the truth (p_t)
    #[arg(long, value_name = "P", default_value_t = 0.01, value_parser = probability)]
    pub p_positive: f64,
    /// Probability that each negative gives to the truth (p_t)
    #[arg(long, value_name = "P", default_value_t = 0.99, value_parser = probability)]
    pub p_negative: f64,
    #[command(flatten)]
    pub weighting: Weighting,
    /// Draw loss and gradient by p_t for several gammas, as .svg or .png
    #[arg(long, value_name = "FILE")]
    pub draw: Option<PathBuf>,
    /// Write the three shares as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct PriorArgs {
    /// Priors (repeatable, or with commas)
    #[arg(long, value_name = "P", value_delimiter = ',', default_values_t = [0.5, 0.1, 0.01], value_parser = probability)]
    pub pi: Vec<f64>,
    /// Anchors that take part in the loss
    #[arg(long, value_name = "N", default_value_t = 1e5, value_parser = count)]
    pub anchors: f64,
    /// Positive anchors among them
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = count)]
    pub positives: f64,
    /// Classes
    #[arg(long, value_name = "N", default_value_t = 80.0, value_parser = count)]
    pub classes: f64,
    #[command(flatten)]
    pub weighting: Weighting,
    /// Write the rows as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

/// The constants of the balanced and the focal loss.
#[derive(Args, Debug, Clone, Copy)]
pub struct Weighting {
    /// Weight of positives; negatives have 1 - alpha
    #[arg(long, value_name = "A", default_value_t = 0.25, value_parser = fraction)]
    pub alpha: f64,
    /// Exponent of the focal factor
    #[arg(long, value_name = "G", default_value_t = 2.0, value_parser = exponent)]
    pub gamma: f64,
}

#[derive(Args, Debug)]
pub struct SuggestArgs {
    /// The configuration: sizes, anchors, matching, loss, and the data where --annotations names none
    pub config: PathBuf,
    /// COCO annotations to count instead of the configuration's; the images are not needed
    #[arg(long, value_name = "F")]
    pub annotations: Option<PathBuf>,
    /// Which of the configuration's sets
    #[arg(long, default_value = "train", conflicts_with = "annotations")]
    pub split: Split,
    /// Match the anchors of at most so many images, evenly chosen; classes are counted on all
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Write counts and proposals as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

fn number(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if fits(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

fn count(text: &str) -> Result<f64, String> {
    number(text, |v| v > 0.0 && v.is_finite(), "a number above 0")
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
