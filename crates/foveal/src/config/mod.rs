//! The configuration of a command: defaults, overridden by the files, overridden by `--set`.

pub(crate) mod checkpoint;
mod file;
mod keys;
mod layer;
#[cfg(test)]
mod recipes;
mod schema;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use foveal_base::excerpt;
use foveal_train::RunConfig;
use toml::{Table, Value};

pub(crate) use file::{EXTENDS, layers};
pub(crate) use layer::{Layer, Origin};
pub(crate) use schema::schema;

/// The keys whose values are paths. Relative paths in a configuration file are relative to the folder of the file.
pub(crate) const PATH_KEYS: [&str; 6] = [
    "data.train.annotations",
    "data.train.images",
    "data.val.annotations",
    "data.val.images",
    "data.cache.dir",
    "model.weights",
];

/// The keys whose values are lists of paths, and those whose values are lists of tables with paths.
pub(crate) const PATH_LISTS: [&str; 2] = ["data.backgrounds", "data.more_train"];

/// The keys of free names: their values are tables whose keys are names of classes.
const NAME_KEYS: [&str; 2] = ["data.classes.rename", "data.classes.join"];

/// The key of the command after an epoch. It has no default, and foveal never writes it to a file.
pub(crate) const ON_EPOCH: &str = "train.on_epoch";

/// A configuration, and the files that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The resolved configuration.
    pub config: RunConfig,
    /// The configuration file and the files that it extends.
    pub files: Vec<PathBuf>,
}

/// The configuration that results from the defaults, an optional file with those that it extends, and `--set`.
///
/// All paths are absolute. If the file does not set `name`, the name is that of the file.
///
/// # Errors
/// If a file cannot be read, a key is unknown or a value is invalid. The error names the file or the `--set` option,
/// the key, what was expected and what was found.
pub(crate) fn open(file: Option<&Path>, sets: &[String]) -> Result<Loaded> {
    let layers = file.map_or_else(|| Ok(Vec::new()), layers)?;
    let files = files_of(&layers);
    Ok(Loaded { config: with_sets(layers, sets)?, files })
}

/// The configuration that [`open`] returns, without the files.
///
/// # Errors
/// Those of [`open`].
pub(crate) fn load(file: Option<&Path>, sets: &[String]) -> Result<RunConfig> {
    Ok(open(file, sets)?.config)
}

/// The files that layers were read from.
pub(crate) fn files_of(layers: &[Layer]) -> Vec<PathBuf> {
    let file = |layer: &Layer| match &layer.origin {
        Origin::File(path) => Some(path.clone()),
        _ => None,
    };
    layers.iter().filter_map(file).collect()
}

/// The configuration that results from the defaults, some layers and `--set`; later values override earlier ones.
///
/// # Errors
/// If a key is unknown or a value is invalid. The error names the source of the value, the key, what was expected and
/// what was found.
pub(crate) fn with_sets(mut layers: Vec<Layer>, sets: &[String]) -> Result<RunConfig> {
    for set in sets {
        layers.push(Layer::from_set(set)?);
    }
    resolve(&layers)
}

/// The configuration that results from the defaults, the layers of a file, `--set` and an arm of a lab; later values
/// override earlier ones.
///
/// # Errors
/// If a key is unknown or a value is invalid. The error names the source of the value, the key, what was expected and
/// what was found.
pub(crate) fn with_arm(file: &[Layer], sets: &[String], arm: Layer) -> Result<RunConfig> {
    let mut layers = file.to_vec();
    for set in sets {
        layers.push(Layer::from_set(set)?);
    }
    layers.push(arm);
    resolve(&layers)
}

/// A layer that contains all values of a configuration.
///
/// # Errors
/// If the configuration cannot be converted to TOML, which would be a bug.
pub(crate) fn layer_of(config: &RunConfig, origin: Origin) -> Result<Layer> {
    let table = Table::try_from(config).context("the configuration cannot be converted to TOML")?;
    Ok(Layer { origin, table })
}

/// A configuration as TOML, with all keys.
///
/// # Errors
/// If the configuration cannot be converted to TOML, which would be a bug.
pub(crate) fn to_toml(config: &RunConfig) -> Result<String> {
    toml::to_string(config).context("the configuration cannot be converted to TOML")
}

fn resolve(layers: &[Layer]) -> Result<RunConfig> {
    let known = keys::known()?;
    let mut merged = Table::new();
    for layer in layers {
        keys::check(&layer.table, &known).map_err(|what| anyhow!("{}: {what}", layer.origin))?;
        merge(&mut merged, &layer.table);
    }
    let config: RunConfig = serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
        let path = error.path().to_string();
        let origin = origin_of(layers, &path);
        let message = excerpt(error.inner().message().trim().replace('\n', " "));
        anyhow!("{origin}: {path}: {message}")
    })?;
    config.validate().map_err(|error| anyhow!("{}: {error}", origin_of(layers, &error.key)))?;
    Ok(config)
}

/// The source of a key's value: the last layer that contains the key, or `defaults`.
fn origin_of(layers: &[Layer], path: &str) -> String {
    // An entry of a list is from the layer of the list.
    let path = path.split('[').next().unwrap_or(path);
    layers
        .iter()
        .rev()
        .find(|layer| layer::get(&layer.table, path).is_some())
        .map_or_else(|| "defaults".to_owned(), |layer| layer.origin.to_string())
}

fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Makes a path absolute, and removes `..` from it if the result is the same existing file.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // `configs/../data` is shortened to `data`. If `configs` is a link, the short path is another file and is not used.
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                short.pop();
            }
            other => short.push(other),
        }
    }
    match (short.canonicalize(), path.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => short,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        format!("{:#}", load(None, &sets).expect_err("must be refused"))
    }

    #[test]
    fn later_layers_override_earlier_ones_and_values_are_parsed_as_toml() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my run.toml");
        std::fs::write(&file, "[train]\nepochs = 3\nlr = 1\n[data.train]\nimages = \"pics\"\n").unwrap();
        let sets = ["train.epochs=5", "data.val.images=pics", "train.optimizer=adamw"].map(String::from);
        let config = load(Some(&file), &sets).unwrap();
        assert_eq!(config.name, "my-run");
        assert_eq!(config.train.epochs, 5);
        assert_eq!(config.train.lr, 1.0);
        assert_eq!(config.data.train.images, Some(dir.path().join("pics")));
        assert_eq!(config.data.val.images, Some(std::env::current_dir().unwrap().join("pics")));
        let again = dir.path().join("again.toml");
        std::fs::write(&again, to_toml(&config).unwrap()).unwrap();
        assert_eq!(load(Some(&again), &[]).unwrap(), config);
    }

    #[test]
    fn errors_in_every_section_name_the_source_of_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.toml");
        for (key, value, expected) in [
            ("name", "\"a/b\"", "letters"),
            ("data.min_size", "0", "at least 1 pixel"),
            ("data.std", "[1.0, 0.0, 1.0]", "above 0"),
            ("data.augment.scale_jitter", "[2.0, 1.0]", "low <= high"),
            ("model.freeze_stages", "9", "0 (nothing) to 5"),
            ("model.head.prior", "1.5", "between 0 and 1"),
            ("model.anchors.scales", "0", "at least 1"),
            ("matcher.negative_iou", "0.9", "positive_iou, which is 0.5"),
            ("matcher.candidates", "0", "at least 1 anchor of each pyramid level"),
            ("loss.gamma", "-1.0", "0 or more"),
            ("train.lr", "-1.0", "above 0"),
            ("eval.nms", "2.0", "from 0 to 1"),
            ("bench.height", "100", "multiple of 32"),
        ] {
            std::fs::write(&file, format!("{key} = {value}\n")).unwrap();
            let in_file = format!("{:#}", load(Some(&file), &[]).unwrap_err());
            let set = format!("{key}={value}");
            let by_set = failure(&[&set]);
            let wanted = |origin: &str| format!("{origin}: {key}: expected ");
            for (text, origin) in [(in_file, file.display().to_string()), (by_set, format!("--set {set}"))] {
                assert!(text.starts_with(&wanted(&origin)) && text.contains(expected), "{text}");
                assert!(text.ends_with(&format!("found {value}")), "{text}");
            }
        }
        // The source is the last layer that contains the key.
        std::fs::write(&file, "train.lr = -1.0\n").unwrap();
        let text = format!("{:#}", load(Some(&file), &["train.lr=-2".to_owned()]).unwrap_err());
        assert!(text.starts_with("--set train.lr=-2: "), "{text}");
    }

    #[test]
    fn errors_name_the_source_the_key_and_a_similar_key() {
        let text = failure(&["train.epoch=5"]);
        assert!(text.contains("--set train.epoch=5") && text.contains("train.epochs"), "{text}");
        let text = failure(&["data.batch_size=5"]);
        assert!(text.contains("train.batch_size"), "{text}");
        let text = failure(&["train.epochs=many"]);
        assert!(text.contains("train.epochs") && text.contains("many"), "{text}");
        let text = failure(&["train=5"]);
        assert!(text.contains("train"), "{text}");
        let text = failure(&["train.lr=-1"]);
        assert!(text.contains("train.lr"), "{text}");
        let text = failure(&["epochs"]);
        assert!(text.contains("KEY.PATH=VALUE"), "{text}");
    }
}
