//! The settings of the written file: those of the plan, the paths, and those of `--set`.

use std::path::Path;

use anyhow::{Context, Result};
use foveal_detector::CheckpointMeta;
use foveal_image::Preprocess;
use foveal_train::RunConfig;
use serde::Serialize;
use toml::{Table, Value};

use super::data::Sets;
use super::plan::{Plan, Setting};
use super::{Parts, paths};
use crate::args::{Common, InitArgs};
use crate::config::{self, Layer, Origin, PATH_KEYS, PATH_LISTS};
use crate::failure::Usage;

/// Keys of a checkpoint's network that a new configuration does not take over.
const NOT_TAKEN: [&str; 3] = ["model.live_norms", "model.freeze_stages", "model.class_channels"];

/// The settings of `--set`.
pub(super) struct Given {
    /// Keys with their values, in the order of the command line.
    values: Vec<(String, Value)>,
    /// The defaults with these settings.
    pub config: RunConfig,
    /// `train.epochs`, if it is set.
    pub epochs: Option<usize>,
}

impl Given {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`Usage`] for a key that an option of `foveal init` sets; another error for an unknown key or an invalid value.
    pub(super) fn of(common: &Common) -> Result<Self> {
        let mut values = Vec::new();
        for set in &common.set {
            flatten(&Layer::from_set(set)?.table, "", &mut values);
        }
        for (key, _) in &values {
            let is_given_by_option = PATH_KEYS.contains(&key.as_str()) && key != "data.cache.dir";
            let of_one_set =
                key == "data.source" || PATH_LISTS.contains(&key.as_str()) || key.starts_with("data.classes");
            if is_given_by_option || of_one_set {
                let options = "--train, --images, --val, --val-images or --weights";
                return Err(Usage(format!(
                    "--set {key}: foveal init takes one training set and its paths by {options}"
                ))
                .into());
            }
        }
        let config = config::with_sets(Vec::new(), &common.set)?;
        let epochs = values.iter().any(|(key, _)| key == "train.epochs").then_some(config.train.epochs);
        Ok(Self { values, config, epochs })
    }
}

/// The values of a table with their dotted keys.
fn flatten(table: &Table, prefix: &str, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => flatten(inner, &format!("{prefix}{key}."), into),
            value => into.push((format!("{prefix}{key}"), value.clone())),
        }
    }
}

/// The settings of a checkpoint's network, and of the colours of its input images, that differ from the defaults.
pub(super) fn of_checkpoint(meta: &CheckpointMeta) -> Result<Vec<(String, Value)>> {
    let values = |config: &RunConfig| -> Result<Vec<(String, Value)>> {
        let mut values = Vec::new();
        let table = Table::try_from(config).context("the settings of the checkpoint cannot be converted to TOML")?;
        flatten(&table, "", &mut values);
        Ok(values)
    };
    let mut config = RunConfig { model: meta.model.clone(), ..RunConfig::default() };
    let Preprocess { resize, mean, std, .. } = meta.preprocess;
    (config.data.resize, config.data.mean, config.data.std) = (resize, mean, std);
    let defaults = values(&RunConfig::default())?;
    let taken = |key: &str| !NOT_TAKEN.iter().any(|not_taken| key.starts_with(not_taken));
    let differs = |setting: &(String, Value)| !defaults.contains(setting) && taken(&setting.0);
    Ok(values(&config)?.into_iter().filter(differs).collect())
}

/// The name of a value in configurations, such as `frozen_batch`.
pub(super) fn text_of(value: &impl Serialize) -> Result<String> {
    let value = Value::try_from(value).context("the setting cannot be converted to TOML")?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// A configuration with the settings of the plan and absolute paths, to time steps with.
pub(super) fn provisional(args: &InitArgs, given: &Given, plan: &Plan) -> Result<RunConfig> {
    let mut all = plan.settings.clone();
    apply(given, &mut all);
    let mut table = table(&all);
    let mut path = |key: &str, path: &Path| {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        insert(&mut table, key, Value::String(path.to_string_lossy().into_owned()));
        Ok::<(), anyhow::Error>(())
    };
    path("data.train.annotations", &args.train)?;
    path("data.train.images", &args.images)?;
    path("data.val.annotations", args.val.as_ref().unwrap_or(&args.train))?;
    path("data.val.images", args.val_images.as_ref().unwrap_or(&args.images))?;
    if let Some(weights) = &args.weights {
        path("model.weights", weights)?;
    }
    // Images that cannot be used are left out here; whether they may be was decided before.
    insert(&mut table, "data.on_error", Value::String("skip".to_owned()));
    config::with_sets(vec![Layer { origin: Origin::File(args.output.clone()), table }], &[])
}

/// All settings of the file in `folder`.
pub(super) fn complete(
    args: &InitArgs,
    given: &Given,
    plan: &Plan,
    sets: &Sets,
    folder: &Path,
    parts: &Parts,
) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let val_images = args.val_images.as_ref().unwrap_or(&args.images);
    let (train, val) = match &args.val {
        Some(val) => (paths::in_config(&args.train, folder)?, paths::in_config(val, folder)?),
        None => (name(&parts.train), name(&parts.val)),
    };
    let (train_count, val_count) = (sets.train.len(), sets.val.len());
    let reason = match sets.held_out {
        true => format!("{train_count} of the {} images in {}.", train_count + val_count, args.train.display()),
        false => format!("{train_count} images."),
    };
    all.push(Setting::new("data.train.annotations", train, reason));
    all.push(Setting::new("data.train.images", paths::in_config(&args.images, folder)?, "The folder of --images."));
    let reason = match sets.held_out {
        true => format!(
            "{val_count} images that are held out: {:.0} % of those with each class, and at least one where three or \
             more images have it (seed {}).",
            100.0 * val_count as f64 / (train_count + val_count) as f64,
            args.seed
        ),
        false => format!("{val_count} images."),
    };
    all.push(Setting::new("data.val.annotations", val, reason));
    let reason = if args.val_images.is_some() { "The folder of --val-images." } else { "The folder of --images." };
    all.push(Setting::new("data.val.images", paths::in_config(val_images, folder)?, reason));
    if sets.left_out > 0 && !sets.held_out {
        let reason = format!("{} images or boxes cannot be used (foveal data check lists them).", sets.left_out);
        all.push(Setting::new("data.on_error", "skip", reason));
    }
    if let Some(weights) = &args.weights {
        all.push(Setting::new("model.weights", paths::in_config(weights, folder)?, "The file of --weights."));
    }
    all.extend(plan.settings.iter().cloned());
    apply(given, &mut all);
    Ok(all)
}

/// Overrides settings by those of the command line.
fn apply(given: &Given, all: &mut Vec<Setting>) {
    for (key, value) in &given.values {
        let setting = Setting::new(key, value.clone(), "Set on the command line.");
        match all.iter_mut().find(|known| known.key == *key) {
            Some(known) => *known = setting,
            None => all.push(setting),
        }
    }
}

/// The table of a file with these settings.
pub(super) fn table(settings: &[Setting]) -> Table {
    let mut table = Table::new();
    settings.iter().for_each(|setting| insert(&mut table, &setting.key, setting.value.clone()));
    table
}

/// Sets a dotted key.
fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let inner = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
