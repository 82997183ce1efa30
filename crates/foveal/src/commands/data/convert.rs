//! `foveal data convert`: annotations of other formats to COCO's, and COCO's to others.

use std::path::{Path, PathBuf};

use anyhow::Result;
use foveal_formats::{
    CocoOptions, Converted, CsvOptions, CvatOptions, Difficult, ExportOptions, Exported, LabelmeOptions, OnError,
    OpenImagesOptions, Placement, VocOptions, YoloOptions, convert_coco, convert_csv, convert_cvat, convert_labelme,
    convert_open_images, convert_voc, convert_yolo, export_csv, export_cvat, export_voc, export_yolo,
};
use serde_json::json;

use crate::console::note;
use crate::convert_args::{
    CocoArgs, ConvertCommand, CsvArgs, CvatArgs, DifficultArg, ExportArgs, FileArgs, ImportArgs, LabelmeArgs,
    OnErrorArg, OpenImagesArgs, ToCsvArgs, TreeArgs, VocArgs, YoloArgs,
};
use crate::failure::DONE;
use crate::output;
use crate::outputs::Files;

/// Runs a subcommand of `foveal data convert` and returns its exit code.
///
/// # Errors
/// If the data set cannot be converted, an output is an input, or a file cannot be written.
pub(super) fn run(command: &ConvertCommand) -> Result<u8> {
    match command {
        ConvertCommand::Voc(args) => voc(args),
        ConvertCommand::Yolo(args) => yolo(args),
        ConvertCommand::Cvat(args) => cvat(args),
        ConvertCommand::Labelme(args) => labelme(args),
        ConvertCommand::Csv(args) => csv(args),
        ConvertCommand::Openimages(args) => open_images(args),
        ConvertCommand::Coco(args) => coco(args),
        ConvertCommand::ToYolo(args) => to_yolo(args),
        ConvertCommand::ToVoc(args) => to_voc(args),
        ConvertCommand::ToCvat(args) => to_cvat(args),
        ConvertCommand::ToCsv(args) => to_csv(args),
    }
}

fn voc(args: &VocArgs) -> Result<u8> {
    let folder = &args.voc_dir;
    let inputs = ["Annotations", "ImageSets", "JPEGImages"].map(|name| folder.join(name));
    outputs(Files::new().read_folders("file of the data set", &inputs), &args.import).check()?;
    let difficult = match args.difficult {
        DifficultArg::Crowd => Difficult::Crowd,
        DifficultArg::Object => Difficult::Object,
        DifficultArg::Drop => Difficult::Drop,
    };
    let (split, classes) = (args.split.clone(), given(&args.classes));
    let options = VocOptions { split, classes, difficult, on_error: on_error(args.import.on_error) };
    finish(&convert_voc(folder, &options)?, &args.import)
}

fn yolo(args: &YoloArgs) -> Result<u8> {
    let folders = [Some(&args.data), args.images.as_ref(), args.labels.as_ref()];
    let files = Files::new().read_folders("file of the data set", folders.into_iter().flatten());
    outputs(files.read("file of the data set", [&args.data]), &args.import).check()?;
    let options = YoloOptions {
        split: args.split.clone(),
        images: args.images.clone(),
        labels: args.labels.clone(),
        classes: given(&args.classes),
        on_error: on_error(args.import.on_error),
    };
    finish(&convert_yolo(&args.data, &options)?, &args.import)
}

fn cvat(args: &CvatArgs) -> Result<u8> {
    let files = Files::new().read("annotation file", [&args.annotations]).read_images(&args.images);
    outputs(files, &args.import).check()?;
    let options = CvatOptions {
        images: args.images.clone(),
        subset: args.subset.clone(),
        classes: given(&args.classes),
        on_error: on_error(args.import.on_error),
    };
    finish(&convert_cvat(&args.annotations, &options)?, &args.import)
}

fn labelme(args: &LabelmeArgs) -> Result<u8> {
    let files = Files::new().read_everything("annotation file", [&args.folder]).read_images(&args.images);
    outputs(files, &args.import).check()?;
    let options = LabelmeOptions {
        images: args.images.clone(),
        classes: given(&args.classes),
        on_error: on_error(args.import.on_error),
    };
    finish(&convert_labelme(&args.folder, &options)?, &args.import)
}

fn csv(args: &CsvArgs) -> Result<u8> {
    let files = Files::new().read("annotation file", [&args.annotations]).read_images(&args.images);
    outputs(files, &args.import).check()?;
    let options = CsvOptions {
        images: args.images.clone(),
        classes: given(&args.classes),
        on_error: on_error(args.import.on_error),
    };
    finish(&convert_csv(&args.annotations, &options)?, &args.import)
}

fn open_images(args: &OpenImagesArgs) -> Result<u8> {
    let files = Files::new().read("annotation file", [&args.boxes]).read_images([&args.images]);
    outputs(files.read("file of class descriptions", &args.class_descriptions), &args.import).check()?;
    let options = OpenImagesOptions {
        images: args.images.clone(),
        class_descriptions: args.class_descriptions.clone(),
        classes: given(&args.classes),
        on_error: on_error(args.import.on_error),
    };
    finish(&convert_open_images(&args.boxes, &options)?, &args.import)
}

fn coco(args: &CocoArgs) -> Result<u8> {
    let files = Files::new().read("annotation file", [&args.annotations]).read_images(&args.images);
    outputs(files, &args.import).check()?;
    let options = CocoOptions { images: args.images.clone(), on_error: on_error(args.import.on_error) };
    finish(&convert_coco(&args.annotations, &options)?, &args.import)
}

fn to_yolo(args: &TreeArgs) -> Result<u8> {
    let data = args.out.join("data.yaml");
    written(&args.export, &args.images, &data).check()?;
    let exported = export_yolo(&args.export.annotations, &args.out, &args.split, &tree_options(args))?;
    report(&exported, &args.out, &args.export)
}

fn to_voc(args: &TreeArgs) -> Result<u8> {
    let list = args.out.join("ImageSets/Main").join(format!("{}.txt", args.split));
    written(&args.export, &args.images, &list).check()?;
    let exported = export_voc(&args.export.annotations, &args.out, &args.split, &tree_options(args))?;
    report(&exported, &args.out, &args.export)
}

fn to_cvat(args: &FileArgs) -> Result<u8> {
    written(&args.export, &args.images, &args.out).check()?;
    let exported = export_cvat(&args.export.annotations, &args.out, &file_options(args))?;
    report(&exported, &args.out, &args.export)
}

fn to_csv(args: &ToCsvArgs) -> Result<u8> {
    let ToCsvArgs { file, no_header } = args;
    written(&file.export, &file.images, &file.out).check()?;
    let exported = export_csv(&file.export.annotations, &file.out, !no_header, &file_options(file))?;
    report(&exported, &file.out, &file.export)
}

/// The classes of `--classes`, if there are any.
fn given(classes: &[String]) -> Option<Vec<String>> {
    (!classes.is_empty()).then(|| classes.to_vec())
}

fn on_error(rule: OnErrorArg) -> OnError {
    match rule {
        OnErrorArg::Fail => OnError::Fail,
        OnErrorArg::Skip => OnError::Skip,
    }
}

fn tree_options(args: &TreeArgs) -> ExportOptions {
    let placement = if args.copy { Placement::Copy } else { Placement::Link };
    ExportOptions { images: args.images.clone(), placement, on_error: on_error(args.export.on_error) }
}

fn file_options(args: &FileArgs) -> ExportOptions {
    let on_error = on_error(args.export.on_error);
    ExportOptions { images: args.images.clone(), placement: Placement::default(), on_error }
}

/// Adds the outputs of an import to its inputs.
fn outputs<'a>(files: Files<'a>, args: &'a ImportArgs) -> Files<'a> {
    files.write("--out", [&args.out]).write("--json", &args.json)
}

/// The inputs and outputs of an export.
fn written<'a>(args: &'a ExportArgs, images: &'a Option<PathBuf>, out: &'a Path) -> Files<'a> {
    let files = Files::new().read("annotation file", [&args.annotations]).read_images(images);
    files.write("--out", [out]).write("--json", &args.json)
}

/// Writes a data set that was converted, and says what was left out and decided.
fn finish(converted: &Converted, args: &ImportArgs) -> Result<u8> {
    let Converted { dataset, notes, images } = converted;
    for note in notes {
        note!("warning: {note}");
    }
    let out = &args.out;
    output::create_parent(out)?;
    dataset.write(out)?;
    note!(
        "{}: {} images, {} objects, {} categories",
        out.display(),
        dataset.images.len(),
        dataset.annotations.len(),
        dataset.categories.len()
    );
    if let Some(images) = images {
        note!("the file names are relative to the folder of images {}", images.display());
    }
    if let Some(path) = &args.json {
        let value = json!({
            "out": out.display().to_string(),
            "images": dataset.images.len(),
            "objects": dataset.annotations.len(),
            "crowds": dataset.annotations.iter().filter(|annotation| annotation.iscrowd).count(),
            "categories": dataset.categories,
            "image_folder": images.as_ref().map(|folder| folder.display().to_string()),
            "notes": notes,
        });
        output::write_json(path, &value)?;
    }
    Ok(DONE)
}

/// Says what an export wrote, left out and decided.
fn report(exported: &Exported, out: &Path, args: &ExportArgs) -> Result<u8> {
    let Exported { images, objects, classes, placed, notes } = exported;
    for note in notes {
        note!("warning: {note}");
    }
    let linked = if *placed > 0 { format!("; {placed} images linked or copied") } else { String::new() };
    note!("{}: {images} images, {objects} objects, {classes} classes{linked}", out.display());
    if let Some(path) = &args.json {
        let value = json!({
            "out": out.display().to_string(), "images": images, "objects": objects, "classes": classes, "placed": placed, "notes": notes,
        });
        output::write_json(path, &value)?;
    }
    Ok(DONE)
}
