//! What is written is what was planned.

use super::plan::decide;
use super::settings::table;
use super::write::text;
use crate::config;

/// Compares each value of `written` with that of `resolved`, the configuration after reading the file.
fn compare(written: &toml::Table, resolved: &toml::Table, path: &str) {
    for (key, value) in written {
        let path = format!("{path}{key}");
        let found = resolved.get(key).unwrap_or_else(|| panic!("{path}"));
        match (value, found) {
            (toml::Value::Table(value), toml::Value::Table(found)) => compare(value, found, &format!("{path}.")),
            // Settings of type f32.
            (toml::Value::Float(value), toml::Value::Float(found)) => {
                assert!((value - found).abs() <= 1e-6 * value.abs(), "{path}: {value} {found}");
            }
            (toml::Value::Array(value), toml::Value::Array(found)) => {
                let numbers = |values: &[toml::Value]| -> Vec<f32> {
                    let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|v| v as f64));
                    values.iter().filter_map(number).map(|v| v as f32).collect()
                };
                assert_eq!(numbers(value), numbers(found), "{path}");
                let tables = |values: &[toml::Value]| values.iter().filter_map(|v| v.as_table().cloned()).collect();
                let (tables_written, tables_found): (Vec<toml::Table>, Vec<toml::Table>) =
                    (tables(value), tables(found));
                assert_eq!(value.len(), numbers(value).len() + tables_written.len(), "{path}");
                assert_eq!(tables_written.len(), tables_found.len(), "{path}");
                tables_written.iter().zip(&tables_found).for_each(|(a, b)| compare(a, b, &format!("{path}.")));
            }
            (value, found) => assert_eq!(value, found, "{path}"),
        }
    }
}

#[test]
fn a_written_plan_is_read_as_it_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let mut scratch = super::plan::tests::cells();
    scratch.weights = None;
    scratch.data.imbalance = 50.0;
    scratch.data.repeats.rarest = 3.0;
    scratch.data.classes[2].objects = 40;
    for (name, facts) in [("tuned.toml", super::plan::tests::cells()), ("scratch.toml", scratch)] {
        let plan = decide(&facts);
        let path = dir.path().join(name);
        std::fs::write(&path, text(&["A head.".to_owned()], &plan.settings)).unwrap();
        let read = config::load(Some(&path), &[]).unwrap();
        let resolved = toml::Table::try_from(&read).unwrap();
        compare(&table(&plan.settings), &resolved, "");
        assert_eq!((read.data.min_size, read.train.epochs), (plan.size, plan.epochs));
    }
}
