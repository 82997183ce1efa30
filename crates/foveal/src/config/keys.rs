//! The keys that exist, and suggestions for keys that do not.

use anyhow::{Context, Result};
use foveal_train::RunConfig;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{NAME_KEYS, PATH_KEYS};

/// The tree of all keys with their default values; `null` for a key without a default.
///
/// # Errors
/// If the default configuration cannot be converted to JSON, which would be a bug.
pub(super) fn known() -> Result<Json> {
    let mut tree =
        serde_json::to_value(RunConfig::default()).context("the configuration cannot be converted to JSON")?;
    // Users do not set this key, but configurations that come from checkpoints contain it.
    tree["model"]["class_channels"] = Json::Null;
    // It has no default, and it is never written to a file.
    tree["train"]["on_epoch"] = Json::Null;
    // serde leaves out paths without a default, but they are keys too.
    for key in PATH_KEYS {
        at(&mut tree, key);
    }
    // Their keys are names of classes.
    for key in NAME_KEYS {
        *at(&mut tree, key) = Json::Null;
    }
    Ok(tree)
}

/// The value of a key of the tree, which is null if the tree does not have it.
fn at<'a>(tree: &'a mut Json, key: &str) -> &'a mut Json {
    key.split('.').fold(tree, |place, part| &mut place[part])
}

/// Checks that all keys of a table exist.
///
/// # Errors
/// A message that names the first unknown key and the most similar known one.
pub(super) fn check(table: &Table, known: &Json) -> Result<(), String> {
    match first_unknown(table, known, "") {
        None => Ok(()),
        Some(path) => Err(format!("unknown key `{path}`; did you mean `{}`?", nearest(&path, known))),
    }
}

fn first_unknown(table: &Table, known: &Json, prefix: &str) -> Option<String> {
    let known = known.as_object()?;
    table.iter().find_map(|(key, value)| {
        let path = format!("{prefix}{key}");
        match (known.get(key), value) {
            (None, _) => Some(path),
            (Some(inner), Value::Table(table)) => first_unknown(table, inner, &format!("{path}.")),
            _ => None,
        }
    })
}

/// The known key with the smallest edit distance to `path`. A key with the same last part in another section has the
/// distance 1.
fn nearest(path: &str, known: &Json) -> String {
    let mut all = Vec::new();
    list(known, "", &mut all);
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |candidate: &String| {
        if last(candidate) == last(path) { 1 } else { strsim::damerau_levenshtein(candidate, path) }
    };
    all.iter().min_by_key(|candidate| distance(candidate)).cloned().unwrap_or_default()
}

fn list(known: &Json, prefix: &str, into: &mut Vec<String>) {
    if let Some(object) = known.as_object() {
        for (key, value) in object {
            let path = format!("{prefix}{key}");
            list(value, &format!("{path}."), into);
            into.push(path);
        }
    }
}
