//! The configuration of a run, and what differs from the defaults or between runs.

use anyhow::Result;
use foveal_train::RunConfig;
use toml::{Table as Toml, Value};

use super::environment::{Environment, date};
use super::run::Run;
use crate::config;
use crate::page::{Cell, Html, Table, el, facts};

/// The keys of a configuration with their values, as TOML writes them.
pub(super) fn keys(config: &RunConfig) -> Result<Vec<(String, String)>> {
    let table: Toml = toml::from_str(&config::to_toml(config)?)?;
    let mut keys = Vec::new();
    flatten(String::new(), &table, &mut keys);
    Ok(keys)
}

fn flatten(prefix: String, table: &Toml, keys: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(path, inner, keys),
            other => keys.push((path, other.to_string())),
        }
    }
}

/// The value of a key.
fn value<'a>(keys: &'a [(String, String)], key: &str) -> Option<&'a str> {
    keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// The settings of a run that differ from the defaults, and all of them folded away.
///
/// # Errors
/// If the configuration cannot be converted to TOML, which would be a bug.
pub(super) fn settings(config: &RunConfig) -> Result<Html> {
    let (own, defaults) = (keys(config)?, keys(&RunConfig::default())?);
    let changed = own.iter().filter(|(key, own)| value(&defaults, key) != Some(own.as_str()));
    let rows = changed.map(|(key, own)| {
        let default = value(&defaults, key).unwrap_or("not set");
        [key.as_str(), own, default].map(Cell::text).to_vec()
    });
    let columns = ["key", "value", "default"].map(str::to_owned).to_vec();
    let caption = "Settings that differ from the defaults".to_owned();
    let table = Table { caption, columns, rows: rows.collect() }.html(false);
    let all = facts("All settings", own);
    Ok(table.with(el("details").child(el("summary").text("All settings")).child(all)))
}

/// The settings that differ between runs, with a column for each run.
///
/// # Errors
/// If a configuration cannot be converted to TOML, which would be a bug.
pub(super) fn differences(runs: &[Run]) -> Result<Html> {
    let all: Vec<Vec<(String, String)>> = runs.iter().map(|run| keys(&run.config)).collect::<Result<_>>()?;
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in all.iter().flatten() {
        if !names.contains(&key.as_str()) {
            names.push(key);
        }
    }
    let rows = names.into_iter().filter_map(|name| {
        let values: Vec<Option<&str>> = all.iter().map(|keys| value(keys, name)).collect();
        let differs = values.iter().any(|value| value != &values[0]);
        let cells = values.into_iter().map(|value| Cell::text(value.unwrap_or("not set")));
        differs.then(|| [Cell::text(name)].into_iter().chain(cells).collect())
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    if rows.is_empty() {
        return Ok(el("p").text("The runs have the same configuration.").into());
    }
    let columns = ["key".to_owned()].into_iter().chain(runs.iter().map(|run| run.name.clone())).collect();
    Ok(Table { caption: "Settings that differ between the runs".to_owned(), columns, rows }.html(false))
}

/// Where and how a run was started, and its seeds.
pub(super) fn environment(config: &RunConfig, environment: &Environment) -> Html {
    let seeds = vec![
        ("seed of the training (train.seed)".to_owned(), config.train.seed.to_string()),
        ("seed of the generated data set (data.shapes.seed)".to_owned(), config.data.shapes.seed.to_string()),
    ];
    let starts = environment.starts.iter().enumerate().map(|(index, start)| {
        let rows = [
            ("command", start.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
            ("folder", start.folder.display().to_string()),
            ("time", date(start.unix_time)),
            ("version", format!("foveal {}", start.version)),
            ("device", start.device.clone()),
            ("threads", start.threads.to_string()),
            ("system", start.system.clone()),
        ];
        let caption = if index == 0 { "First start".to_owned() } else { format!("Start {}", index + 1) };
        facts(&caption, rows.map(|(name, value)| (name.to_owned(), value)).to_vec())
    });
    let starts: Html = starts.collect();
    let unknown =
        el("p").class("note").text("The run's folder has no environment.json: an earlier version trained it.");
    let starts = if starts.is_empty() { Html::from(unknown) } else { starts };
    starts.with(facts("Seeds", seeds))
}

/// A word of a command line, in quotes if a shell would divide or change it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_settings_are_listed() {
        let mut config = RunConfig::default();
        config.train.epochs += 1;
        let html = settings(&config).unwrap();
        let (changed, all) = html.as_str().split_once("<details>").unwrap();
        assert_eq!(changed.matches("<tr>").count(), 2, "{changed}");
        assert!(changed.contains("train.epochs") && !changed.contains("train.batch_size"));
        assert!(all.contains("train.batch_size") && all.contains("loss.kind"));
    }

    #[test]
    fn commands_are_quoted_for_a_shell() {
        assert_eq!(["train", "a b", "it's", ""].map(quoted), ["train", "'a b'", r"'it'\''s'", "''"]);
    }
}
