//! The command line. The doc comments of subcommands, arguments and values are the texts of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::analysis_args::AnalysisArgs;
pub(crate) use crate::data_args::{CheckArgs, DataCommand, DataSetArgs, ShowArgs, StatsArgs};
pub(crate) use crate::fit_args::{FitArg, FitArgs};
pub(crate) use crate::init_args::InitArgs;
pub(crate) use crate::loss_args::{LossCommand, PriorArgs, ShareArgs, SuggestArgs};

/// Train, evaluate and run dense object detectors
#[derive(Parser, Debug)]
#[command(name = "foveal", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub(crate) struct Common {
    /// Device to compute on: auto, flex, ndarray, wgpu[:index], vulkan[:index], metal[:index] or dx12[:index]; auto
    /// takes a discrete or virtual GPU, on macOS also an integrated one, else the CPU (flex); `foveal devices` lists
    /// them
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto", help_heading = "Global options")]
    pub device: String,
    /// Number of computation threads [default: one per core]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Global options",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    pub threads: Option<u32>,
    /// Override a configuration key (repeatable); VALUE is read as TOML, or as text if it is not valid TOML
    #[arg(long, global = true, value_name = "KEY.PATH=VALUE", help_heading = "Global options")]
    pub set: Vec<String>,
    /// Print only warnings and errors to stderr, and no progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// The commands of the program.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Write a commented configuration for a data set and a device
    Init(InitArgs),
    /// Train a detector from a configuration
    Train(TrainArgs),
    /// Evaluate a checkpoint: COCO metrics and losses
    Eval(EvalArgs),
    /// Compute the COCO metrics of a results file, without a model
    Score(ScoreArgs),
    /// Detect objects in images
    Predict(PredictArgs),
    /// Convert the weights of a torchvision detector to a checkpoint
    Import(ImportArgs),
    /// Export the network of a checkpoint for other programs
    Export(ExportArgs),
    /// Print the resolved configuration
    Config(ConfigArgs),
    /// Print the layers, parameters, multiply-adds and training memory of a network
    Summary(SummaryArgs),
    /// Time training steps, inference, losses or data loading
    Bench(BenchArgs),
    /// Check, describe, show, convert and generate data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Measure how well anchors fit the objects of a data set
    #[command(subcommand)]
    Anchors(AnchorsCommand),
    /// Analyse class losses for imbalanced data
    #[command(subcommand)]
    Loss(LossCommand),
    /// Train several variants of a configuration and compare them
    Lab(LabArgs),
    /// Run a training step with a NaN or infinite loss again and find the layer it came from
    Replay(ReplayArgs),
    /// Write an HTML page about a run, or one that compares several runs
    Report(ReportArgs),
    /// List the devices that foveal can compute on, with their limits, and test them
    Devices(DevicesArgs),
    /// Describe this machine and this build, test the devices, and say what would make training slow
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Arguments of `foveal doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Folder in which runs will be written, whose disk is examined
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Write the findings as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Shell that reads the script
    pub shell: clap_complete::Shell,
}

/// Arguments of `foveal devices`.
#[derive(Args, Debug)]
pub(crate) struct DevicesArgs {
    /// Test each device for at most 10 seconds: a forward and backward pass, compared with known values
    #[arg(long)]
    pub test: bool,
    /// Write the list as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal train`.
#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// Configuration file (TOML)
    pub config: PathBuf,
    /// Run directory; must be new or empty, except with --resume [default: runs/<name>-<n>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in --out after the last saved optimizer step [default: the latest runs/<name>-<n>]
    #[arg(long)]
    pub resume: bool,
    /// With --resume, go on even if settings or data that change the training differ from those of the saved run
    #[arg(long, requires = "resume")]
    pub allow_changes: bool,
    /// Do not check whether the scores and the class loss of the first step are those of a new class head
    #[arg(long)]
    pub no_step0_check: bool,
    /// Compute train.batch_size from the memory of the device; the learning rate follows it with train.scale_lr
    #[arg(long)]
    pub auto_batch: bool,
    /// Train and evaluate on the first N training images only, to test whether they can be learned
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub overfit: Option<u32>,
}

/// Arguments of `foveal report`.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Run directories of `foveal train`; several are compared
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// HTML file to write
    ///
    /// The page needs no network and no other file. `foveal train` writes the report of its own run to report.html in
    /// the run directory after each evaluation.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Arguments of `foveal replay`.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// Run directory with a black box, or the folder of a black box
    pub dir: PathBuf,
    /// Write the result with statistics of every layer as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Data types in which a network can compute its convolutions and feature maps at inference.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum InferencePrecision {
    /// Single precision
    #[default]
    F32,
    /// Half precision, on GPUs that support it
    F16,
}

/// Arguments of `foveal eval`.
#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    /// Checkpoint (.safetensors), or a run directory, of which the best checkpoint is taken
    pub checkpoint: PathBuf,
    /// COCO annotations [default: the validation set of the checkpoint's run]
    #[arg(long, value_name = "FILE", requires = "images")]
    pub annotations: Option<PathBuf>,
    /// Folder of the images
    #[arg(long, value_name = "DIR", requires = "annotations")]
    pub images: Option<PathBuf>,
    /// Write the metrics as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the detections as a COCO results file to FILE
    #[arg(long, value_name = "FILE")]
    pub coco: Option<PathBuf>,
    /// Data type of convolutions and feature maps
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    pub precision: InferencePrecision,
    #[command(flatten)]
    pub analysis: AnalysisArgs,
}

/// Arguments of `foveal score`.
#[derive(Args, Debug)]
pub(crate) struct ScoreArgs {
    /// COCO annotations (ground truth)
    #[arg(long, value_name = "FILE")]
    pub annotations: PathBuf,
    /// COCO results: a JSON list of detections with image_id, category_id, bbox and score
    #[arg(long, value_name = "FILE")]
    pub detections: PathBuf,
    /// Configuration or config.toml of a run: the annotations get its classes (data.classes, data.more_train)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the metrics as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print the durations of reading and evaluating to stderr
    #[arg(long)]
    pub times: bool,
    /// Folder of the images, for --crops and for --compare with a checkpoint or a run
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Checkpoint that made the detections, of which --save writes a copy
    #[arg(long, value_name = "FILE", requires = "save")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub analysis: AnalysisArgs,
}

/// Arguments of `foveal predict`.
#[derive(Args, Debug)]
pub(crate) struct PredictArgs {
    /// Checkpoint (.safetensors)
    pub checkpoint: PathBuf,
    /// Image files, folders of images, or glob patterns
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// Write the detections as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the detections as a COCO results file to FILE
    #[arg(long, value_name = "FILE")]
    pub coco: Option<PathBuf>,
    /// COCO annotations that map file names to the image ids of --coco
    ///
    /// [default: image ids are the numbers in the file names, else 1, 2, ... in the order of the inputs]
    #[arg(long, value_name = "FILE", requires = "coco")]
    pub annotations: Option<PathBuf>,
    /// Write the images with boxes, class names and scores to DIR
    #[arg(long, value_name = "DIR")]
    pub draw: Option<PathBuf>,
    /// Lowest score of the detections in all outputs [default: 0.5 in drawings and in the printed list, the
    /// checkpoint's threshold in the files of --json and --coco]
    #[arg(long, value_name = "SCORE")]
    pub score_threshold: Option<f32>,
    /// Data type of convolutions and feature maps
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    pub precision: InferencePrecision,
}

/// Constructors of torchvision detectors.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    /// Version 1: P6 computed from P5, frozen batch norm
    #[value(name = "retinanet_resnet50_fpn")]
    V1,
    /// Version 2: P6 computed from C5, group norm in the heads
    #[value(name = "retinanet_resnet50_fpn_v2")]
    V2,
}

/// Arguments of `foveal import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Weights of a torchvision detector (.pth or .safetensors)
    pub weights: PathBuf,
    /// torchvision constructor of the detector
    #[arg(long, value_name = "NAME")]
    pub arch: Arch,
    /// File with one category per line, in label order, without the background
    ///
    /// A line is `NAME`, or `ID<TAB>NAME` if the ids are not 1, 2, ... [default: COCO's categories if the weights have
    /// 91 class channels, else class_1, class_2, ...]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Epsilon of the backbone's norms, which the weight file does not contain; 0 for torchvision's COCO_V1 weights
    #[arg(long, value_name = "EPSILON", default_value_t = 1e-5)]
    pub norm_eps: f64,
    /// Checkpoint to write (.safetensors)
    #[arg(short, long, value_name = "CHECKPOINT")]
    pub output: PathBuf,
}

/// Formats that other programs read.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    /// All weights under torchvision's names
    Safetensors,
    /// State dict for torchvision's constructor; a torch file if FILE ends in .pth or .pt
    Torchvision,
    /// ONNX graph for onnxruntime, tract and others, with dynamic batch size, height and width
    Onnx,
}

/// Arguments of `foveal export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Checkpoint (.safetensors)
    pub checkpoint: PathBuf,
    /// Format to write
    #[arg(long, value_name = "FORMAT")]
    pub format: ExportFormat,
    /// Include non-maximum suppression in the ONNX graph, which then outputs final detections
    #[arg(long)]
    pub nms: bool,
    /// Round the weights to 16-bit floats
    #[arg(long)]
    pub half: bool,
    /// Do not verify the exported file
    #[arg(long)]
    pub no_verify: bool,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Arguments of `foveal config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML) [default: all keys at their defaults]
    pub config: Option<PathBuf>,
    /// Print all keys with their default values
    #[arg(long, conflicts_with_all = ["config", "schema"])]
    pub defaults: bool,
    /// Print the JSON schema of the configuration
    #[arg(long, conflicts_with = "config")]
    pub schema: bool,
}

/// Arguments of `foveal summary`.
#[derive(Args, Debug)]
pub(crate) struct SummaryArgs {
    /// Configuration file (TOML) or checkpoint (.safetensors)
    #[arg(value_name = "CONFIG|CHECKPOINT")]
    pub input: PathBuf,
    /// Height and width of the images in pixels, rounded up to multiples of 32 [default: data.fixed_size, else
    /// data.min_size x data.max_size]
    #[arg(long, value_name = "HxW", value_parser = size)]
    pub size: Option<[u32; 2]>,
    /// Images per batch [default: train.batch_size of a configuration, 1 for a checkpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Number of classes [default: the number in the training annotations or in the checkpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub classes: Option<u32>,
    /// Write the summary as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Parses a size in pixels, such as `800x1344`, into `[height, width]`.
fn size(text: &str) -> Result<[u32; 2], String> {
    let sides =
        text.split_once(['x', 'X']).and_then(|(height, width)| Some([height.parse().ok()?, width.parse().ok()?]));
    match sides {
        Some(sides) if sides.iter().all(|side| (1..=65_536).contains(side)) => Ok(sides),
        _ => Err("expected HEIGHTxWIDTH in pixels, each from 1 to 65536, such as 800x1344".to_owned()),
    }
}

/// Phases that `foveal bench` times.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BenchPhase {
    /// Training step: forward, losses, backward, optimizer update
    Train,
    /// Inference: forward and post-processing
    Infer,
    /// Class and box losses, forward and backward
    Loss,
    /// Class loss, forward and backward
    Focal,
    /// Loading of the configuration's training set; timed only with --only data
    Data,
    /// The network without post-processing; timed only with --only raw
    Raw,
    /// Peak throughput of the CPU in multiply-adds; measured only with --only peak
    Peak,
}

/// Arguments of `foveal bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Configuration file (TOML) [default: ResNet-50, 80 classes, batch 2, 512x512, frozen norms, SGD]
    pub config: Option<PathBuf>,
    /// Timed repetitions of each phase [default: bench.steps, which is 10 if it is not set]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: Option<u32>,
    /// Time one phase only
    #[arg(long, value_name = "PHASE")]
    pub only: Option<BenchPhase>,
    /// Checkpoint whose inference is timed [default: random weights, which detect nothing]
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Number type of the convolutions, as train.precision [default: that of the configuration]
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<String>,
    /// Count the operations and fused kernels of a training step; only on a GPU
    #[arg(long)]
    pub count: bool,
    /// Write the images, the logits, the deltas and the weights of the network that --only raw times to FILE
    /// (.safetensors)
    #[arg(long, value_name = "FILE", conflicts_with = "cases")]
    pub outputs: Option<PathBuf>,
    /// Run the cases in FILE one after the other in one process, so that a GPU tunes its kernels once; - reads stdin
    ///
    /// Each line of FILE is a JSON object with any of the keys `name`, `phase` (as --only; default train), `batch`,
    /// `height`, `width`, `steps`, `warmup`, `precision` and `set`, an object of configuration keys and values. The
    /// result of a case is one line of JSON with the keys `case` and `report` or `error`. It is written as soon as the
    /// case has ended, and before the next line of FILE is read: to stdout, or at the end of the file of --json. No
    /// case follows one in which the device failed, unless it only ran out of memory.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["steps", "only", "precision"])]
    pub cases: Option<PathBuf>,
    /// Write the times as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The two data sets of a configuration.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitArg {
    /// Training set (data.train)
    Train,
    /// Validation set (data.val)
    Val,
}

/// Subcommands of `foveal anchors`.
#[derive(Subcommand, Debug)]
pub(crate) enum AnchorsCommand {
    /// Measure the best IoU between the anchors and the objects of a data set
    Coverage {
        /// Configuration file (TOML)
        config: PathBuf,
        /// Data set of the configuration
        #[arg(long, default_value = "train")]
        split: SplitArg,
        /// Write the result as JSON to FILE; - writes to stdout
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Fit the sizes, ratios and scales of the anchors, or the size of the input, to the training set
    Fit(FitArgs),
}

/// Arguments of `foveal lab`.
#[derive(Args, Debug)]
pub(crate) struct LabArgs {
    /// Configuration file (TOML)
    pub config: PathBuf,
    /// Variants (arms) to compare: table1, gamma, alpha, pi, rare-classes, assign, augment, recipe, or a TOML file
    #[arg(long, value_name = "SET")]
    pub arms: String,
    /// Number of seeds, or a list of seeds: `3` means seeds 1, 2 and 3; `7,` means seed 7 only
    #[arg(long, value_name = "N|A,B,C", default_value = "1")]
    pub seeds: String,
    /// Arms to run [default: all of the set]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Minutes of training of all runs together, without evaluations: each run gets the same share, and its steps and
    /// schedule are fitted to it [default: the steps of the configuration]
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub budget: Option<f64>,
    /// Folder of the runs and results; an existing lab is resumed [default: labs/<name>-<set>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Number of bootstrap resamples, at least 200
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(200..=1_000_000)
    )]
    pub resamples: u32,
    /// Write the result as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Parses a number of minutes, such as `30` or `0.5`.
fn minutes(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && minutes.is_finite());
    number.ok_or_else(|| format!("expected a number of minutes above 0, found {text}"))
}
