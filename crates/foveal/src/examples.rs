//! The examples at the end of the help of each command.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

use crate::args::Cli;

/// Two examples of a command, each with what it does.
struct Examples {
    /// The names of the command and its subcommands, without `foveal`.
    command: &'static str,
    /// Two command lines, each with what it does.
    lines: [[&'static str; 2]; 2],
}

const fn examples(command: &'static str, first: [&'static str; 2], second: [&'static str; 2]) -> Examples {
    Examples { command, lines: [first, second] }
}

/// The examples of all commands and subcommands, and of the program itself.
const ALL: [Examples; 46] = [
    examples(
        "init",
        ["foveal init --train train.json --images images", "Hold out a fifth of the images, and write mine.toml"],
        [
            "foveal init --train train.json --val val.json --images images --minutes 30 -o fast.toml",
            "Choose settings whose training takes half an hour on this machine",
        ],
    ),
    examples(
        "train",
        ["foveal train mine.toml --out runs/mine", "Train, and write checkpoints and logs to runs/mine"],
        [
            "foveal train mine.toml --out runs/mine --resume --set train.epochs=24",
            "Go on with that run for more epochs",
        ],
    ),
    examples(
        "eval",
        ["foveal eval runs/mine --explain", "Evaluate the best checkpoint of a run, and say why its metrics are low"],
        [
            "foveal eval best.safetensors --annotations test.json --images test --json metrics.json",
            "Evaluate on another data set, and write the metrics as JSON",
        ],
    ),
    examples(
        "report",
        ["foveal report runs/mine -o report.html", "Write the page of a run, for example after a change of its files"],
        ["foveal report runs/first runs/second -o comparison.html", "Compare two runs on one page"],
    ),
    examples(
        "score",
        ["foveal score --annotations val.json --detections results.json", "Print the COCO metrics of a results file"],
        [
            "foveal score --annotations val.json --detections results.json --explain",
            "Say why they are low, such as other ids or boxes of resized images",
        ],
    ),
    examples(
        "predict",
        ["foveal predict best.safetensors photos --draw drawn", "Draw the detections on all images of a folder"],
        [
            "foveal predict best.safetensors 'photos/*.jpg' --score-threshold 0.3 --json found.json",
            "Write the detections of some images as JSON",
        ],
    ),
    examples(
        "import",
        [
            "foveal import retinanet.pth --arch retinanet_resnet50_fpn --norm-eps 0 -o coco.safetensors",
            "Convert torchvision's weights COCO_V1",
        ],
        [
            "foveal import mine.pth --arch retinanet_resnet50_fpn_v2 --labels names.txt -o mine.safetensors",
            "Convert weights with categories of your own",
        ],
    ),
    examples(
        "export",
        ["foveal export best.safetensors --format onnx -o mine.onnx", "Write an ONNX file"],
        [
            "foveal export best.safetensors --format onnx --nms -o mine.onnx",
            "Write an ONNX file that outputs final detections",
        ],
    ),
    examples(
        "config",
        ["foveal config --defaults", "Print all keys with their defaults"],
        ["foveal config mine.toml --set train.lr=0.005", "Print what a run with these settings would use"],
    ),
    examples(
        "summary",
        ["foveal summary mine.toml", "Print the layers of a network and the memory of its training"],
        ["foveal summary best.safetensors --size 800x1344", "Count the multiply-adds for images of this size"],
    ),
    examples(
        "bench",
        ["foveal bench mine.toml", "Time training steps and inference on the default device"],
        ["foveal bench mine.toml --only data", "Time the loading of the training set"],
    ),
    examples(
        "data",
        ["foveal data check mine.toml", "Check both data sets of a configuration"],
        ["foveal data stats mine.toml", "Count images, objects and classes"],
    ),
    examples(
        "data convert",
        [
            "foveal data convert voc VOC2007 --split trainval --out train.json",
            "Convert a list of images with their annotations",
        ],
        [
            "foveal data convert voc VOC2007 --split test --classes cat,dog --out test.json",
            "Convert the objects of two classes",
        ],
    ),
    examples(
        "anchors",
        ["foveal anchors coverage mine.toml", "Measure how well the anchors fit the training set"],
        ["foveal anchors coverage mine.toml --split val", "Measure it on the validation set"],
    ),
    examples(
        "loss",
        ["foveal loss suggest mine.toml", "Propose settings of the class loss for a data set"],
        ["foveal loss share --gamma 1 --draw curves.svg", "Draw the curves of a focal loss with another gamma"],
    ),
    examples(
        "data check",
        ["foveal data check mine.toml", "Check both data sets of a configuration"],
        [
            "foveal data check --annotations train.json --images images --html check.html",
            "Check one data set, and write a page with crops",
        ],
    ),
    examples(
        "data stats",
        [
            "foveal data stats mine.toml --html stats.html",
            "Count images, objects and classes, and write a page with charts",
        ],
        ["foveal data stats --annotations train.json --json -", "Print the counts as JSON"],
    ),
    examples(
        "data show",
        ["foveal data show mine.toml -o sheet.png", "Draw 16 training samples as the network gets them"],
        [
            "foveal data show mine.toml --original --class cat -o cats.html",
            "Write a page with cats beside their stored images",
        ],
    ),
    examples(
        "data convert voc",
        [
            "foveal data convert voc VOC2007 --split trainval --out train.json",
            "Convert a list of images with their annotations",
        ],
        [
            "foveal data convert voc VOC2007 --classes cat,dog --out all.json",
            "Convert all annotation files, with two classes in this order",
        ],
    ),
    examples(
        "data convert yolo",
        ["foveal data convert yolo data.yaml --split val --out val.json", "Convert a split of data.yaml"],
        [
            "foveal data convert yolo . --images photos --labels labels --classes cat,dog --out all.json",
            "Convert two folders without data.yaml",
        ],
    ),
    examples(
        "data convert cvat",
        ["foveal data convert cvat annotations.xml --images images --out all.json", "Convert annotations of images"],
        [
            "foveal data convert cvat video.xml --images frames --out frames.json",
            "Convert a video whose frames are frame_000000.png and so on in this folder",
        ],
    ),
    examples(
        "data convert labelme",
        ["foveal data convert labelme photos --out all.json", "Convert a folder with images and JSON files"],
        [
            "foveal data convert labelme json --images photos --on-error skip --out all.json",
            "Leave out files and shapes that cannot be converted",
        ],
    ),
    examples(
        "data convert csv",
        ["foveal data convert csv boxes.csv --images photos --out all.json", "Convert a table of boxes"],
        [
            "foveal data convert csv boxes.csv --images photos --classes cat,dog --out all.json --json -",
            "Give the order of the classes, and print what was left out as JSON",
        ],
    ),
    examples(
        "data convert openimages",
        [
            "foveal data convert openimages validation-annotations-bbox.csv --images val --out val.json",
            "Convert boxes, with labels such as /m/01g317 as names",
        ],
        [
            "foveal data convert openimages boxes.csv --images val --class-descriptions classes.csv --out val.json",
            "Convert boxes with the names of the labels",
        ],
    ),
    examples(
        "data convert coco",
        [
            "foveal data convert coco result.json --images images --out train.json",
            "Fit the file names of Label Studio's export to the images",
        ],
        [
            "foveal data convert coco train/_annotations.coco.json --out train.json",
            "Leave out the category that stands for the project of Roboflow",
        ],
    ),
    examples(
        "data convert to-yolo",
        [
            "foveal data convert to-yolo train.json --images images --out yolo",
            "Write labels and data.yaml, and link the images",
        ],
        ["foveal data convert to-yolo val.json --images images --split val --out yolo", "Add the validation set"],
    ),
    examples(
        "data convert to-voc",
        ["foveal data convert to-voc train.json --images images --out voc", "Write a Pascal VOC folder"],
        [
            "foveal data convert to-voc train.json --images images --copy --split trainval --out voc",
            "Copy the images and name the list of images",
        ],
    ),
    examples(
        "data convert to-cvat",
        ["foveal data convert to-cvat train.json --out annotations.xml", "Write a file that CVAT can upload"],
        [
            "foveal data convert to-cvat train.json --images images --on-error skip --out annotations.xml",
            "Leave out images that are not in the folder",
        ],
    ),
    examples(
        "data convert to-csv",
        ["foveal data convert to-csv train.json --out boxes.csv", "Write a table with names of columns"],
        [
            "foveal data convert to-csv train.json --no-header --out boxes.csv",
            "Write path,x1,y1,x2,y2,class as keras-retinanet reads it",
        ],
    ),
    examples(
        "data shapes",
        ["foveal data shapes --out shapes", "Write the generated data set as a COCO folder"],
        ["foveal data shapes --out shapes --set data.shapes.count=100", "Write one with 100 images"],
    ),
    examples(
        "data split",
        ["foveal data split all.json --out parts", "Write parts/train.json and parts/val.json with 80 and 20 percent"],
        [
            "foveal data split all.json --parts train=0.7,val=0.15,test=0.15 --group '^(.*)_[0-9]+' --out parts",
            "Write three parts, and keep the frames of a video together",
        ],
    ),
    examples(
        "data merge",
        ["foveal data merge a.json b.json --images a,b --out all.json", "Join two data sets with folders of their own"],
        [
            "foveal data merge cats.json dogs.json --same-image both-objects --out pets.json",
            "Join two sets of annotations of the same images",
        ],
    ),
    examples(
        "data subset",
        [
            "foveal data subset all.json --classes cat,dog --with-objects --out pets.json",
            "Select two classes and the images that have them",
        ],
        ["foveal data subset all.json --count 500 --seed 1 --out small.json", "Select 500 random images"],
    ),
    examples(
        "data remap",
        [
            "foveal data remap all.json --join car,van=vehicle --drop boat --out vehicles.json",
            "Make one class of two, and drop another one",
        ],
        ["foveal data remap all.json --map names.csv --out renamed.json", "Rename the classes that a table lists"],
    ),
    examples(
        "data tile",
        [
            "foveal data tile all.json --images images --size 640 --out tiles",
            "Cut the images to tiles of 640 pixels that overlap by a fifth",
        ],
        [
            "foveal data tile all.json --images images --size 1024 --empty 0.1 --format png --out tiles",
            "Keep a tenth of the tiles without objects, and write PNG files",
        ],
    ),
    examples(
        "anchors coverage",
        ["foveal anchors coverage mine.toml", "Measure how well the anchors fit the training set"],
        [
            "foveal anchors coverage mine.toml --split val --set model.anchors.scales=2",
            "Measure two anchor sizes for each level on the validation set",
        ],
    ),
    examples(
        "anchors fit",
        [
            "foveal anchors fit mine.toml -o fitted.toml",
            "Fit the anchors, and write a configuration that extends mine.toml",
        ],
        [
            "foveal anchors fit mine.toml --what input,sizes --max-pixels 1.5",
            "Also choose a size of the images with at most 1.5 times the pixels",
        ],
    ),
    examples(
        "loss share",
        ["foveal loss share --positives 20 --negatives 1e6", "Print the positives' share of three class losses"],
        ["foveal loss share --gamma 1 --draw curves.svg", "Draw the curves of a focal loss with another gamma"],
    ),
    examples(
        "loss prior",
        ["foveal loss prior --classes 3", "Print the first loss for several priors"],
        ["foveal loss prior --pi 0.01,0.001 --anchors 2e5", "Compare two priors for large images"],
    ),
    examples(
        "loss suggest",
        ["foveal loss suggest mine.toml", "Propose settings of the class loss for a data set"],
        ["foveal loss suggest mine.toml --annotations other.json", "Propose them for other annotations"],
    ),
    examples(
        "lab",
        ["foveal lab mine.toml --arms gamma --seeds 3", "Compare several values of gamma with three seeds each"],
        [
            "foveal lab mine.toml --arms recipe --budget 60 --out labs/recipe",
            "Compare recipes that share one hour of training",
        ],
    ),
    examples(
        "replay",
        ["foveal replay runs/mine", "Find the layer in which the last bad step of a run turned NaN"],
        ["foveal replay runs/mine --json -", "Print the statistics of every layer as JSON"],
    ),
    examples(
        "devices",
        ["foveal devices", "List the devices with their limits"],
        ["foveal devices --test", "List and test them"],
    ),
    examples(
        "doctor",
        ["foveal doctor", "Examine this machine and test its devices"],
        ["foveal doctor --out /data/runs --json -", "Examine another disk, and print the findings as JSON"],
    ),
    examples(
        "completions",
        [
            "foveal completions bash > ~/.local/share/bash-completion/completions/foveal",
            "Complete commands and options in bash",
        ],
        ["foveal completions zsh > ~/.zfunc/_foveal", "Complete them in zsh, if ~/.zfunc is in fpath"],
    ),
    examples(
        "",
        ["foveal init --train train.json --images images", "Write a configuration for a data set"],
        ["foveal train mine.toml", "Train with it"],
    ),
];

/// The command line with the examples.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for Examples { command: names, lines } in &ALL {
        let names: Vec<&str> = names.split_whitespace().collect();
        command = with_help(command, &names, &help(lines));
    }
    command
}

/// Adds a text to the end of the help of the command that `names` lead to.
fn with_help(command: clap::Command, names: &[&str], text: &str) -> clap::Command {
    match names.split_first() {
        None => command.after_help(text.to_owned()),
        Some((name, rest)) => command.mut_subcommand(*name, |inner| with_help(inner, rest, text)),
    }
}

fn help(lines: &[[&str; 2]; 2]) -> String {
    let lines: Vec<String> = lines.iter().map(|[line, does]| format!("  {line}\n      {does}")).collect();
    format!("Examples:\n{}", lines.join("\n"))
}

/// Reads the command line.
///
/// # Errors
/// What clap has to say in place of a command, such as a help text or an error.
pub(crate) fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands and subcommands.
    fn list(command: &clap::Command, names: &str, into: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let names = format!("{names} {}", inner.get_name()).trim().to_owned();
            list(inner, &names, into);
            into.push(names);
        }
    }

    #[test]
    fn every_command_has_two_examples_that_can_be_run() {
        let mut all = Vec::new();
        list(&command(), "", &mut all);
        for names in &all {
            assert!(ALL.iter().any(|examples| examples.command == names), "{names}: expected examples");
        }
        for Examples { command: names, lines } in &ALL {
            assert!(names.is_empty() || all.iter().any(|known| known == names), "{names}: found no such command");
            for [line, does] in lines {
                assert!(line.starts_with(format!("foveal {names}").trim()) && !does.ends_with('.'), "{line}");
                let words = line.split_whitespace().take_while(|word| *word != ">");
                let parsed = parse(words.map(|word| word.trim_matches('\'').to_owned()));
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            }
        }
    }

    #[test]
    fn the_help_of_a_command_ends_with_its_examples() {
        for arguments in [&["foveal", "data", "show", "--help"][..], &["foveal", "train", "-h"], &["foveal", "--help"]]
        {
            let help = parse(arguments.iter().copied()).unwrap_err().to_string();
            let (_, examples) = help.rsplit_once("Examples:\n").unwrap();
            assert_eq!(examples.lines().filter(|line| line.starts_with("  foveal ")).count(), 2, "{help}");
        }
    }
}
