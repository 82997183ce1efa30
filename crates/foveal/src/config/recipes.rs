//! Tests of the recipes in `configs/`.

use std::path::{Path, PathBuf};

use foveal_train::RunConfig;
use toml::{Table, Value};

use super::{load, to_toml};

/// The path of a file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// A configuration as a table, with its paths relative to the repository.
fn table(config: &RunConfig) -> Table {
    fn relative(value: &mut Value) {
        match value {
            Value::Table(table) => table.iter_mut().for_each(|(_, value)| relative(value)),
            Value::String(text) if Path::new(text).is_absolute() => {
                *text = text[text.rfind("data/").expect("the data of recipes is in data/")..].to_owned();
            }
            _ => {}
        }
    }
    // Through the text, because that has the shortest digits of single precision.
    let mut table: Table = toml::from_str(&to_toml(config).unwrap()).unwrap();
    table.iter_mut().for_each(|(_, value)| relative(value));
    table
}

/// The first key of `found` that has neither the value of `wanted` nor, where `wanted` lacks it, that of `defaults`.
fn first_change(found: &Table, wanted: &Table, defaults: &Table, prefix: &str) -> Option<String> {
    let empty = Table::new();
    let section = |table: &Table, key: &str| table.get(key).and_then(Value::as_table).unwrap_or(&empty).clone();
    let missing = wanted.keys().find(|key| !found.contains_key(*key)).map(|key| format!("{prefix}{key} is missing"));
    missing.or_else(|| {
        found.iter().find_map(|(key, value)| match value {
            Value::Table(inner) => {
                let [wanted, defaults] = [wanted, defaults].map(|table| section(table, key));
                first_change(inner, &wanted, &defaults, &format!("{prefix}{key}."))
            }
            _ if wanted.get(key).or(defaults.get(key)) == Some(value) => None,
            _ => Some(format!("{prefix}{key} = {value}")),
        })
    })
}

#[test]
fn every_recipe_can_be_used() {
    let folder = std::fs::read_dir(path("configs")).unwrap().map(|entry| entry.unwrap().path());
    let recipes: Vec<PathBuf> = folder.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    assert!(recipes.len() >= 10, "{recipes:?}");
    for recipe in recipes {
        let config = load(Some(&recipe), &[]).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(Some(config.name.as_str()), recipe.file_stem().and_then(|stem| stem.to_str()));
        let text = std::fs::read_to_string(&recipe).unwrap();
        assert!(text.starts_with("# "), "{}: expected a header", recipe.display());
    }
}

#[test]
fn published_recipes_keep_their_values() {
    let defaults = table(&RunConfig::default());
    for name in ["retinanet_r50_torchvision", "retinanet_r50_1x_coco"] {
        let found = table(&load(Some(&path(&format!("configs/{name}.toml"))), &[]).unwrap());
        let text = std::fs::read_to_string(path(&format!("tests/fixtures/recipes/{name}.toml"))).unwrap();
        let wanted: Table = toml::from_str(&text).unwrap();
        assert_eq!(first_change(&found, &wanted, &defaults, ""), None, "{name}");
        // The comparison finds changed values, missing keys and new keys without their default.
        let change = |key: &str, value: Option<Value>| {
            let mut changed = found.clone();
            let train = changed["train"].as_table_mut().unwrap();
            match value {
                Some(value) => drop(train.insert(key.to_owned(), value)),
                None => drop(train.remove(key)),
            }
            first_change(&changed, &wanted, &defaults, "")
        };
        assert_eq!(change("lr", Some(Value::Float(0.5))), Some("train.lr = 0.5".to_owned()));
        assert_eq!(change("cosine_epochs", Some(Value::Float(2.0))), Some("train.cosine_epochs = 2.0".to_owned()));
        assert_eq!(change("lr", None), Some("train.lr is missing".to_owned()));
    }
}
