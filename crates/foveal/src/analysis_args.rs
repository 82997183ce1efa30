//! Arguments of the analysis of detections, which `foveal eval` and `foveal score` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use foveal_eval::{ClassColumn, ThresholdRule};

/// Arguments of the analysis of detections.
#[derive(Args, Debug)]
pub(crate) struct AnalysisArgs {
    /// Say where the detections are right and wrong: a table of classes with the best score thresholds, AP by size and
    /// by number of objects, shares of the kinds of errors (TIDE), confusions, calibration, and curves in the JSON. The
    /// options below imply it
    #[arg(long)]
    pub analyse: bool,
    /// Say why the metrics are low: a ranked list of likely causes, with what each check measured. It also explains
    /// what is an error otherwise, such as other categories
    #[arg(long)]
    pub explain: bool,
    /// Sort the table of classes by a column
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub sort: Option<SortColumn>,
    /// Compare with other detections on the same images, with an interval for every difference: a COCO results file, a
    /// checkpoint, or a run directory, of which the best checkpoint is taken
    #[arg(long, value_name = "OTHER")]
    pub compare: Option<PathBuf>,
    /// More size bands of objects: the limits between them, as sides of squares in pixels, such as 16,64,256
    #[arg(long, value_name = "SIDES", value_delimiter = ',')]
    pub size_bands: Vec<f64>,
    /// Number of resamples of the images for 95 % intervals of every metric [default: none; with --compare: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..))]
    pub intervals: Option<u32>,
    /// List annotations that are probably wrong: confident detections without an object, objects never found, classes
    /// that all confident detections disagree with
    #[arg(long)]
    pub label_errors: bool,
    /// With --label-errors, write crops of the images at the first 100 of each kind into DIR
    #[arg(long, value_name = "DIR", requires = "label_errors")]
    pub crops: Option<PathBuf>,
    /// Choose a score threshold for each class: best-f1, or precision=P for the lowest one with at least that precision
    #[arg(long, value_name = "RULE", value_parser = threshold_rule)]
    pub thresholds: Option<ThresholdRule>,
    /// With --thresholds, write a copy of the checkpoint with these thresholds, which predict uses, to FILE
    #[arg(long, value_name = "FILE", requires = "thresholds")]
    pub save: Option<PathBuf>,
}

impl AnalysisArgs {
    /// Whether an option asks for the analysis.
    pub(crate) fn wanted(&self) -> bool {
        let Self { analyse, sort, compare, size_bands, intervals, label_errors, thresholds, .. } = self;
        let lists = !size_bands.is_empty() || *label_errors;
        *analyse || lists || sort.is_some() || compare.is_some() || intervals.is_some() || thresholds.is_some()
    }
}

/// The columns by which the table of classes can be sorted.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortColumn {
    /// Category id
    Id,
    /// Name
    Name,
    /// Most objects first
    Objects,
    /// Highest AP first
    Ap,
    /// Highest AP50 first
    Ap50,
    /// Highest AP75 first
    Ap75,
    /// Highest AR first
    Ar,
    /// Highest F1 first
    F1,
}

impl From<SortColumn> for ClassColumn {
    fn from(column: SortColumn) -> Self {
        match column {
            SortColumn::Id => Self::Id,
            SortColumn::Name => Self::Name,
            SortColumn::Objects => Self::Objects,
            SortColumn::Ap => Self::Ap,
            SortColumn::Ap50 => Self::Ap50,
            SortColumn::Ap75 => Self::Ap75,
            SortColumn::Ar => Self::Ar,
            SortColumn::F1 => Self::F1,
        }
    }
}

fn threshold_rule(text: &str) -> Result<ThresholdRule, String> {
    let wrong = || format!("expected best-f1, or precision=P with P from 0 to 1 such as precision=0.9, found {text}");
    if text == "best-f1" {
        return Ok(ThresholdRule::BestF1);
    }
    let precision: f64 = text.strip_prefix("precision=").and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
    if (0.0..=1.0).contains(&precision) { Ok(ThresholdRule::Precision(precision)) } else { Err(wrong()) }
}
