//! The data sets that `foveal data check` and `foveal data stats` read.

use std::path::PathBuf;

use anyhow::Result;
use foveal_coco::LabelMap;
use foveal_data::{DataConfig, DataError, Opened, Source};
use foveal_train::RunConfig;

use crate::args::{Common, DataSetArgs, SplitArg};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::outputs::Files;

/// The data sets of a command.
pub(super) struct Sets {
    /// The data sets with their names, without broken images and boxes.
    pub sets: Vec<(&'static str, Opened)>,
    /// The configuration; `None` if an annotation file was given in its place.
    pub config: Option<RunConfig>,
}

/// Opens the selected data sets. `html` is the page that the command is to write, and `inspect_val` opens the validation
/// set with the classes of the training set.
///
/// # Errors
/// If the configuration or the data cannot be used, or an output is an input.
pub(super) fn open(
    args: &DataSetArgs,
    html: Option<&PathBuf>,
    common: &Common,
    inspect_val: fn(&DataConfig, Option<&LabelMap>) -> Result<Opened, DataError>,
) -> Result<Sets> {
    let Loaded { mut config, files } = config::open(args.config.as_deref(), &common.set)?;
    let named = Files::new().read("configuration", &files).read("annotation file", &args.annotations);
    let named = named.read_images(&args.images).read_config(&config);
    named.write("--json", &args.json).write("--html", html).check()?;
    if let Some(annotations) = &args.annotations {
        let Some(images) = &args.images else {
            note!("the image files are not read; --images DIR names their folder");
            let set = config.data.inspect_annotations(annotations)?;
            return Ok(Sets { sets: vec![("set", set)], config: None });
        };
        config.data.source = Source::Coco;
        config.data.val.annotations = Some(annotations.clone());
        config.data.val.images = Some(images.clone());
        return Ok(Sets { sets: vec![("set", config.data.inspect_val(None)?)], config: None });
    }
    if args.split == Some(SplitArg::Val) {
        let labels = config.data.training_labels()?;
        let sets = vec![("val", inspect_val(&config.data, labels.as_ref())?)];
        return Ok(Sets { sets, config: Some(config) });
    }
    let train = config.data.inspect_train()?;
    let mut sets = vec![("train", train)];
    if args.split.is_none() && names_val(&config) {
        let labels = sets[0].1.dataset.label_map();
        let val = inspect_val(&config.data, Some(labels))?;
        sets.push(("val", val));
    }
    Ok(Sets { sets, config: Some(config) })
}

/// Whether the configuration has a validation set. Configurations that are used only with `--overfit` need none.
fn names_val(config: &RunConfig) -> bool {
    config.data.source != Source::Coco || config.data.val.annotations.is_some()
}
