//! The data sets that `foveal data check` and `foveal data stats` read.

use std::path::PathBuf;

use anyhow::Result;
use foveal_coco::LabelMap;
use foveal_data::{DataConfig, DataError, Opened, Part, Source, join_sets};
use foveal_train::RunConfig;

use crate::args::{Common, DataSetArgs, SplitArg};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::outputs::Files;

/// The data sets of a command.
pub(super) struct Sets {
    /// The data sets with their names, without broken images and boxes.
    pub sets: Vec<(String, Opened)>,
    /// The configuration; `None` if an annotation file was given in its place.
    pub config: Option<RunConfig>,
}

/// Opens the selected data sets. Each set of a training set of several is one of them; with `together`, the whole
/// training set is one too. `html` is the page that the command is to write, and `inspect_val` opens the validation set
/// with the classes of the training set.
///
/// # Errors
/// If the configuration or the data cannot be used, or an output is an input.
pub(super) fn open(
    args: &DataSetArgs,
    html: Option<&PathBuf>,
    common: &Common,
    together: bool,
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
            return Ok(Sets { sets: vec![("set".to_owned(), set)], config: None });
        };
        config.data.source = Source::Coco;
        config.data.val.annotations = Some(annotations.clone());
        config.data.val.images = Some(images.clone());
        return Ok(Sets { sets: vec![("set".to_owned(), config.data.inspect_val(None)?)], config: None });
    }
    if args.split == Some(SplitArg::Val) {
        let labels = config.data.training_labels()?;
        let sets = vec![("val".to_owned(), inspect_val(&config.data, labels.as_ref())?)];
        return Ok(Sets { sets, config: Some(config) });
    }
    let train = config.data.inspect_train_sets()?;
    let all = (together && train.len() > 1).then(|| join_sets(train.clone()));
    let mut sets: Vec<(String, Opened)> = train.into_iter().map(|set| (name_of(&set.part), set.opened)).collect();
    sets.extend(all.map(|all| ("train_all".to_owned(), all)));
    if args.split.is_none() && names_val(&config) {
        let labels = sets[0].1.dataset.label_map();
        let val = inspect_val(&config.data, Some(labels))?;
        sets.push(("val".to_owned(), val));
    }
    Ok(Sets { sets, config: Some(config) })
}

/// The name of a set of the training: `train`, or the key of a further set without its section.
fn name_of(part: &Part) -> String {
    match part.key.as_str() {
        "data.shapes" => "train".to_owned(),
        key => key.strip_prefix("data.").unwrap_or(key).to_owned(),
    }
}

/// Whether the configuration has a validation set. Configurations that are used only with `--overfit` need none.
fn names_val(config: &RunConfig) -> bool {
    config.data.source != Source::Coco || config.data.val.annotations.is_some()
}
