//! The arguments of `foveal anchors fit`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `foveal anchors fit`.
#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// Configuration file (TOML)
    pub config: PathBuf,
    /// What may change: the base sizes, ratios and number of scales of the anchors, and the size of the network's input
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', default_value = "sizes,ratios,scales")]
    pub what: Vec<FitArg>,
    /// IoU from which an object counts as covered by its best anchor
    #[arg(long, value_name = "IOU", default_value_t = 0.5, value_parser = iou)]
    pub iou: f32,
    /// Number of ratios [default: that of the configuration, or as --what scales chooses]
    ///
    /// Without --ratios and --scales, the number of anchors per location stays the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub ratios: Option<u8>,
    /// Number of scales [default: that of the configuration, or as --what scales chooses]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub scales: Option<u8>,
    /// Factor by which the pixels of the padded images may grow with --what input [default: 2]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub max_pixels: Option<f64>,
    /// Seed of the sample of images that the search uses if there are more than 10000 objects [default: train.seed]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Configuration to write, which extends CONFIG and contains what was fitted [default: print it]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the result as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A part of a configuration that `foveal anchors fit` fits.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FitArg {
    /// Base sizes of the levels (model.anchors.base_sizes)
    Sizes,
    /// Aspect ratios (model.anchors.ratios)
    Ratios,
    /// Number of scales (model.anchors.scales)
    Scales,
    /// Size of the network's input (data.min_size and data.max_size, or data.fixed_size)
    Input,
}

/// Parses an IoU above 0 and below 1.
fn iou(text: &str) -> Result<f32, String> {
    let iou = text.parse().ok().filter(|iou: &f32| *iou > 0.0 && *iou < 1.0);
    iou.ok_or_else(|| format!("expected an IoU above 0 and below 1, found {text}"))
}

/// Parses a factor from 1 to 16.
fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| (1.0..=16.0).contains(factor));
    factor.ok_or_else(|| format!("expected a factor from 1 to 16, found {text}"))
}
