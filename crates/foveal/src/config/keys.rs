//! Which keys exist, and which of them someone may have meant.

use anyhow::{Context, Result};
use foveal_train::RunConfig;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::PATH_KEYS;

/// The tree of all keys with their defaults; `null` where there is none.
///
/// # Errors
/// Never with the configuration as it is.
pub fn known() -> Result<Json> {
    let mut tree = serde_json::to_value(RunConfig::default()).context("the configuration is no JSON")?;
    // No key for people, but one of the configurations that checkpoints give.
    tree["model"]["class_channels"] = Json::Null;
    // Paths that no default sets are left out by serde; they are keys all the same.
    for key in PATH_KEYS {
        let mut place = &mut tree;
        for part in key.split('.') {
            place = &mut place[part];
        }
    }
    Ok(tree)
}

/// Refuses keys that do not exist, with the nearest that does.
///
/// # Errors
/// The message.
pub fn check(table: &Table, known: &Json) -> Result<(), String> {
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

/// The key with the smallest edit distance; the same last part elsewhere counts as one edit.
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
