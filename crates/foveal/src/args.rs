//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::loss_args::{LossCommand, PriorArgs, ShareArgs, SuggestArgs};

/// Trains, evaluates and runs dense object detectors.
#[derive(Parser, Debug)]
#[command(name = "foveal", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Where to compute: auto, flex, ndarray, wgpu[:index], vulkan[:index], metal[:index], dx12[:index]
    #[arg(long, global = true, value_name = "D", default_value = "auto", help_heading = "Everywhere")]
    pub device: String,
    /// Worker threads of the computation [default: one a core]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Everywhere",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    pub threads: Option<u32>,
    /// Overrides a key of the configuration; VALUE is a TOML value, else a string (repeatable)
    #[arg(long, global = true, value_name = "KEY.PATH=VALUE", help_heading = "Everywhere")]
    pub set: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Trains a detector from a configuration
    Train(TrainArgs),
    /// Evaluates a checkpoint: COCO figures and losses
    Eval(EvalArgs),
    /// COCO figures of any results file, without a model
    Score(ScoreArgs),
    /// Detects objects in images
    Predict(PredictArgs),
    /// Makes a checkpoint of a torchvision detector's weights
    Import(ImportArgs),
    /// Writes a checkpoint's network for other programs
    Export(ExportArgs),
    /// Prints the resolved configuration
    Config(ConfigArgs),
    /// Prints layers, parameters, multiply-adds and the memory of a training step
    Summary(SummaryArgs),
    /// Times training steps, inference and the loss on seeded random data, or loading
    Bench(BenchArgs),
    /// Checks, describes, converts and generates data
    #[command(subcommand)]
    Data(DataCommand),
    /// How well anchors fit the objects of a data set
    #[command(subcommand)]
    Anchors(AnchorsCommand),
    /// What each class loss makes of an imbalance
    #[command(subcommand)]
    Loss(LossCommand),
    /// Trains several variants of a configuration side by side and compares them
    Lab(LabArgs),
}

#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The configuration, a TOML file
    pub config: PathBuf,
    /// The run directory; must not exist yet [default: runs/<name of the config>-<n>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue from the last finished epoch of the run in --out (else of the latest runs/<name>-<n>)
    #[arg(long)]
    pub resume: bool,
    /// Do not compare the first class loss with what prior, loss and data make it
    #[arg(long)]
    pub no_step0_check: bool,
    /// Train and evaluate on the first N training images alone, to prove a set-up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub overfit: Option<u32>,
}

#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The checkpoint, a .safetensors file
    pub checkpoint: PathBuf,
    /// COCO annotations [default: the validation set of the run the checkpoint lies in]
    #[arg(long, value_name = "F", requires = "images")]
    pub annotations: Option<PathBuf>,
    /// The directory of the images
    #[arg(long, value_name = "DIR", requires = "annotations")]
    pub images: Option<PathBuf>,
    /// Write the figures as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
    /// Write the detections as a COCO results file
    #[arg(long, value_name = "F")]
    pub coco: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// COCO annotations
    #[arg(long, value_name = "F")]
    pub annotations: PathBuf,
    /// COCO results: a list of image_id, category_id, bbox, score
    #[arg(long, value_name = "F")]
    pub detections: PathBuf,
    /// Write the figures as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
    /// Say on stderr how long reading and evaluating took
    #[arg(long)]
    pub times: bool,
}

#[derive(Args, Debug)]
pub struct PredictArgs {
    /// The checkpoint, a .safetensors file
    pub checkpoint: PathBuf,
    /// Images, folders of images, or globs
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// Write all detections as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
    /// Write a COCO results file
    #[arg(long, value_name = "F")]
    pub coco: Option<PathBuf>,
    /// With --coco: take image ids from these annotations, by file name
    #[arg(long, value_name = "F", requires = "coco")]
    pub annotations: Option<PathBuf>,
    /// Write the images with boxes, class names and scores into this folder
    #[arg(long, value_name = "DIR")]
    pub draw: Option<PathBuf>,
    /// Lowest score kept; sets that of the images (0.5) as well as that of the files (the checkpoint's)
    #[arg(long, value_name = "S")]
    pub score_threshold: Option<f32>,
}

/// torchvision's constructors.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// v1: P6 from P5, frozen norms
    #[value(name = "retinanet_resnet50_fpn")]
    V1,
    /// v2: P6 from C5, group norm in the heads
    #[value(name = "retinanet_resnet50_fpn_v2")]
    V2,
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// torchvision's weights: .pth or .safetensors
    pub weights: PathBuf,
    /// What made them
    #[arg(long, value_name = "NAME")]
    pub arch: Arch,
    /// Category names, one a line, in label order, without the background; `id<TAB>name` where ids are not 1, 2, …
    #[arg(long, value_name = "F")]
    pub labels: Option<PathBuf>,
    /// What the backbone's norms add to the variance; the file does not say: 0 for torchvision's COCO_V1
    #[arg(long, value_name = "E", default_value_t = 1e-5)]
    pub norm_eps: f64,
    /// The checkpoint to write, a .safetensors file
    #[arg(short, long, value_name = "CHECKPOINT")]
    pub output: PathBuf,
}

/// What other programs read.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// All weights under torchvision's names, nothing else
    Safetensors,
    /// A state dict for torchvision's constructor; torch's own file where the name ends with .pth or .pt
    Torchvision,
    /// An ONNX graph for onnxruntime, tract and others; batch, height and width are free
    Onnx,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The checkpoint, a .safetensors file
    pub checkpoint: PathBuf,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    pub format: ExportFormat,
    /// onnx: final detections, with suppression in the graph, instead of dense predictions
    #[arg(long)]
    pub nms: bool,
    /// Round the weights to 16 bit
    #[arg(long)]
    pub half: bool,
    /// Do not check what was written
    #[arg(long)]
    pub no_verify: bool,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// A configuration, a TOML file
    pub config: Option<PathBuf>,
    /// Print all keys with their defaults
    #[arg(long, conflicts_with_all = ["config", "schema"])]
    pub defaults: bool,
    /// Print a JSON schema of the configuration
    #[arg(long, conflicts_with = "config")]
    pub schema: bool,
}

#[derive(Args, Debug)]
pub struct SummaryArgs {
    /// A configuration, a TOML file, or a checkpoint, a .safetensors file
    #[arg(value_name = "CONFIG|CHECKPOINT")]
    pub input: PathBuf,
    /// Height and width of the images in pixels, rounded up to multiples of 32 [default: data.fixed_size, or data.min_size
    /// by data.max_size]
    #[arg(long, value_name = "HxW", value_parser = size)]
    pub size: Option<[u32; 2]>,
    /// Images in a batch [default: train.batch_size of a configuration, 1 for a checkpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Number of classes [default: those of the training annotations or of the checkpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub classes: Option<u32>,
    /// Write the summary as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

/// Reads `800x1344`.
fn size(text: &str) -> Result<[u32; 2], String> {
    let sides =
        text.split_once(['x', 'X']).and_then(|(height, width)| Some([height.parse().ok()?, width.parse().ok()?]));
    match sides {
        Some(sides) if sides.iter().all(|side| (1..=65_536).contains(side)) => Ok(sides),
        _ => Err("expected HEIGHTxWIDTH in pixels, such as 800x1344".to_owned()),
    }
}

/// A phase that `bench` times.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchPhase {
    /// Forward, loss, backward, optimizer step
    Train,
    /// Forward and post-processing
    Infer,
    /// The loss alone, forward and backward
    Loss,
    /// The class loss alone, forward and backward
    Focal,
    /// The loading workers alone, on the training set of the configuration; only when asked for
    Data,
}

#[derive(Args, Debug)]
pub struct BenchArgs {
    /// A configuration [default: ResNet-50, 80 classes, batch 2, 512x512, frozen norms, SGD]
    pub config: Option<PathBuf>,
    /// Timed repetitions of each phase [default: bench.steps of the configuration, 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// Run one phase alone
    #[arg(long, value_name = "PHASE")]
    pub only: Option<BenchPhase>,
    /// Time the inference of this checkpoint instead of that of random weights, which find nothing
    #[arg(long, value_name = "F")]
    pub checkpoint: Option<PathBuf>,
    /// Write the times as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

/// Which of the two sets of a configuration.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// data.train
    Train,
    /// data.val
    Val,
}

#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Opens the sets of a configuration and lists what is wrong with them
    Check(DataSetArgs),
    /// Counts images, objects and classes
    Stats(DataSetArgs),
    /// Converts annotations to COCO
    #[command(subcommand)]
    Convert(ConvertCommand),
    /// Writes the generated `shapes` set as a COCO folder
    Shapes {
        /// The folder to write; must not exist yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// A data set named by a configuration or by its files.
#[derive(Args, Debug)]
pub struct DataSetArgs {
    /// The configuration that names the data
    #[arg(required_unless_present = "annotations")]
    pub config: Option<PathBuf>,
    /// COCO annotations instead of a configuration
    #[arg(long, value_name = "F", requires = "images", conflicts_with = "config")]
    pub annotations: Option<PathBuf>,
    /// The directory of the images
    #[arg(long, value_name = "DIR", requires = "annotations")]
    pub images: Option<PathBuf>,
    /// One set alone [default: both]
    #[arg(long, conflicts_with = "annotations")]
    pub split: Option<Split>,
    /// Write the result as JSON; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum ConvertCommand {
    /// Pascal VOC: Annotations/*.xml, ImageSets/Main/<split>.txt
    Voc {
        /// The folder that holds Annotations and ImageSets
        voc_dir: PathBuf,
        /// The list of ImageSets/Main to convert
        #[arg(long, value_name = "NAME")]
        split: String,
        /// The COCO annotations to write
        #[arg(long, value_name = "FILE.json")]
        out: PathBuf,
        /// The classes in the order of their ids [default: all that occur, by name]
        #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
        classes: Vec<String>,
    },
}

#[derive(Subcommand, Debug)]
pub enum AnchorsCommand {
    /// The best IoU that the anchors of a configuration reach with its objects
    Coverage {
        /// The configuration
        config: PathBuf,
        /// Which of its sets
        #[arg(long, default_value = "train")]
        split: Split,
        /// Write the result as JSON; - is stdout
        #[arg(long, value_name = "F")]
        json: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub struct LabArgs {
    /// The configuration, a TOML file
    pub config: PathBuf,
    /// The variants: table1, gamma, alpha, pi, rare-classes, or a TOML file of that kind
    #[arg(long, value_name = "SET")]
    pub arms: String,
    /// A number of seeds, or the seeds themselves: 3 is 1,2,3; a single one has a comma: 7,
    #[arg(long, value_name = "N|A,B,C", default_value = "1")]
    pub seeds: String,
    /// These arms alone
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub only: Vec<String>,
    /// The folder of all runs and of the result; a lab that is there goes on [default: labs/<config>-<set>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Samples of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(200..=1_000_000))]
    pub resamples: u32,
    /// Write the result as JSON too; - is stdout
    #[arg(long, value_name = "F")]
    pub json: Option<PathBuf>,
}
