//! The arguments of `foveal data convert`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Subcommands of `foveal data convert`.
#[derive(Subcommand, Debug)]
pub(crate) enum ConvertCommand {
    /// Convert Pascal VOC annotations
    Voc(VocArgs),
    /// Convert a YOLO data set: label files with data.yaml, or with a list of classes
    Yolo(YoloArgs),
    /// Convert an XML file of CVAT: "CVAT for images 1.1" or "CVAT for video 1.1"
    Cvat(CvatArgs),
    /// Convert a folder with LabelMe's JSON files
    Labelme(LabelmeArgs),
    /// Convert a CSV file with one box in each row
    ///
    /// Without names of columns: path,x1,y1,x2,y2,class, where empty numbers are an image without objects. Names of
    /// columns can be in any order, such as filename,width,height,class,xmin,ymin,xmax,ymax.
    Csv(CsvArgs),
    /// Convert a CSV file with the boxes of Open Images
    Openimages(OpenImagesArgs),
    /// Make a plain COCO file of an export of Label Studio, Roboflow or another program
    Coco(CocoArgs),
    /// Write a YOLO data set from COCO annotations
    ToYolo(TreeArgs),
    /// Write a Pascal VOC folder from COCO annotations
    ToVoc(TreeArgs),
    /// Write an XML file of CVAT ("CVAT for images 1.1") from COCO annotations
    ToCvat(FileArgs),
    /// Write a CSV file with one box in each row from COCO annotations
    ToCsv(ToCsvArgs),
}

/// Arguments of every import.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// COCO annotations to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// What to do about files and objects that cannot be converted: end with an error, or leave them out
    #[arg(long, value_name = "RULE", default_value = "fail")]
    pub on_error: OnErrorArg,
    /// Write what was converted, left out and decided as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal data convert voc`.
#[derive(Args, Debug)]
pub(crate) struct VocArgs {
    /// Folder that contains Annotations and ImageSets
    pub voc_dir: PathBuf,
    /// Image list in ImageSets/Main, without .txt [default: all files of Annotations]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Classes in the order of their ids [default: all that occur, sorted by name]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// What becomes of objects marked difficult: crowd regions (ignored), ordinary objects, or left out
    #[arg(long, value_name = "RULE", default_value = "crowd")]
    pub difficult: DifficultArg,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert yolo`.
#[derive(Args, Debug)]
pub(crate) struct YoloArgs {
    /// data.yaml, a folder that contains it, or a folder with the folders images and labels
    pub data: PathBuf,
    /// Split of data.yaml [default: train]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["images", "labels"])]
    pub split: Option<String>,
    /// Folder of the images, instead of a split
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Folder of the label files, instead of a split
    #[arg(long, value_name = "DIR")]
    pub labels: Option<PathBuf>,
    /// Classes in the order of their indices [default: those of data.yaml or classes.txt]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert cvat`.
#[derive(Args, Debug)]
pub(crate) struct CvatArgs {
    /// XML file of CVAT
    pub annotations: PathBuf,
    /// Folder of the images; for a video, of its frames
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Subset of the project, such as Train [default: all]
    #[arg(long, value_name = "NAME")]
    pub subset: Option<String>,
    /// Classes in the order of their ids [default: those that the file declares, in its order]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert labelme`.
#[derive(Args, Debug)]
pub(crate) struct LabelmeArgs {
    /// Folder with the JSON files
    pub folder: PathBuf,
    /// Folder of the images [default: that of the JSON files]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Classes in the order of their ids [default: all that occur, sorted by name]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert csv`.
#[derive(Args, Debug)]
pub(crate) struct CsvArgs {
    /// CSV file
    pub annotations: PathBuf,
    /// Folder of the images [default: that of the CSV file]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Classes in the order of their ids [default: all that occur, sorted by name]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert openimages`.
#[derive(Args, Debug)]
pub(crate) struct OpenImagesArgs {
    /// CSV file of the boxes
    pub boxes: PathBuf,
    /// Folder of the images
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// CSV file with the names of the labels [default: the labels are the names]
    #[arg(long, value_name = "FILE")]
    pub class_descriptions: Option<PathBuf>,
    /// Classes in the order of their ids [default: all that occur, sorted by name]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `foveal data convert coco`.
#[derive(Args, Debug)]
pub(crate) struct CocoArgs {
    /// COCO annotations of another program
    pub annotations: PathBuf,
    /// Folder of the images, to which the file names are fitted
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of every export.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// COCO annotations
    pub annotations: PathBuf,
    /// What to do about records that cannot be written: end with an error, or leave them out
    #[arg(long, value_name = "RULE", default_value = "fail")]
    pub on_error: OnErrorArg,
    /// Write what was written, left out and decided as JSON to FILE; - writes to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `foveal data convert to-yolo` and `to-voc`.
#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub export: ExportArgs,
    /// Folder to write; the folders of the split in it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the split
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub split: String,
    /// Folder of the images, which are linked into DIR; it also gives sizes that the annotations lack
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Copy the images instead of linking them
    #[arg(long, requires = "images")]
    pub copy: bool,
}

/// Arguments of `foveal data convert to-cvat`.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    #[command(flatten)]
    pub export: ExportArgs,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Folder of the images, for sizes that the annotations lack
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}

/// Arguments of `foveal data convert to-csv`.
#[derive(Args, Debug)]
pub(crate) struct ToCsvArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Write path,x1,y1,x2,y2,class without names of columns, as keras-retinanet reads it
    #[arg(long)]
    pub no_header: bool,
}

/// What `foveal data convert voc` makes of objects marked difficult.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DifficultArg {
    /// Crowd regions, which neither training nor evaluation counts
    Crowd,
    /// Ordinary objects
    Object,
    /// Left out
    Drop,
}

/// What happens to files and objects that cannot be converted.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnErrorArg {
    /// End with an error that names them
    Fail,
    /// Leave them out with a warning
    Skip,
}
