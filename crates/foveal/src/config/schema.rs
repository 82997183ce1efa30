//! The JSON schema of the configuration, for editors and other programs.

use foveal_train::RunConfig;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::EXTENDS;

/// The JSON schema (draft 2020-12) of the configuration: every key with its description, type or possible values, and
/// default. The schema refuses other keys.
pub(crate) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RunConfig>().to_value();
    schema["title"] = json!("foveal configuration");
    tidy(&mut schema);
    // This key is resolved when a file is read, so that configurations do not contain it.
    schema["properties"][EXTENDS] = json!({
        "description": "Path of a configuration file whose values hold where this file sets none, relative to the \
                        folder of this file. That file may extend another one. Default: not set.",
        "type": "string",
    });
    schema
}

/// Adapts the schema of Rust's types to TOML: removes the type null, because TOML has none; removes the defaults of
/// sections, because their keys have defaults; and rounds defaults of type `f32` to the digits of the source.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            if let Some(Value::Array(types)) = object.get("type")
                && let [kind, Value::String(null)] = &types[..]
                && null == "null"
            {
                let kind = kind.clone();
                object.insert("type".to_owned(), kind);
            }
            let single = is_single(object) || object.get("items").and_then(Value::as_object).is_some_and(is_single);
            match object.get_mut("default") {
                Some(Value::Null | Value::Object(_)) => drop(object.shift_remove("default")),
                Some(default) if single => shorten(default),
                _ => {}
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Whether a schema describes a number of type `f32`.
fn is_single(schema: &Map<String, Value>) -> bool {
    schema.get("format").is_some_and(|format| format == "float")
}

/// Rounds an `f32` to its shortest decimal form: `0.05` instead of `0.05000000074505806`.
fn shorten(default: &mut Value) {
    match default {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        number => {
            let short = number.as_f64().and_then(|value| (value as f32).to_string().parse::<f64>().ok());
            if let Some(short) = short {
                *number = json!(short);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Whether a value matches a schema. Implements only the keywords that foveal's schema uses.
    fn fits(schema: &Value, value: &Value) -> bool {
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        let alternatives = list("anyOf").or(list("oneOf"));
        if alternatives.is_some_and(|all| !all.iter().any(|one| fits(one, value)))
            || schema.get("const").is_some_and(|constant| constant != value)
            || list("enum").is_some_and(|all| !all.contains(value))
        {
            return false;
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => value.as_object().is_some_and(|object| {
                object.iter().all(|(key, value)| match schema["properties"].get(key) {
                    Some(property) => fits(property, value),
                    None => schema["additionalProperties"] != false,
                })
            }),
            Some("array") => value.as_array().is_some_and(|items| {
                let length = items.len() as u64;
                schema.get("minItems").is_none_or(|least| length >= least.as_u64().unwrap())
                    && schema.get("maxItems").is_none_or(|most| length <= most.as_u64().unwrap())
                    && items.iter().all(|item| fits(&schema["items"], item))
            }),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("number") => value.is_number(),
            Some("null") => value.is_null(),
            Some(other) => panic!("a type {other}"),
            None => true,
        }
    }

    fn toml(text: &str) -> Value {
        serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
    }

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect()
    }

    #[test]
    fn every_recipe_and_arm_matches_the_schema() {
        let schema = schema();
        let (recipes, sets) = (files("configs"), files("configs/arms"));
        assert!(recipes.len() >= 5 && sets.len() >= 5);
        for path in recipes {
            assert!(fits(&schema, &toml(&std::fs::read_to_string(&path).unwrap())), "{}", path.display());
        }
        for path in sets {
            let set = toml(&std::fs::read_to_string(&path).unwrap());
            for arm in set["arm"].as_array().unwrap() {
                assert!(fits(&schema, &arm["config"]), "{}: {}", path.display(), arm["name"]);
            }
        }
        let defaults = toml(&crate::config::to_toml(&RunConfig::default()).unwrap());
        assert!(fits(&schema, &defaults));
    }

    #[test]
    fn right_values_match_and_wrong_ones_do_not() {
        let schema = schema();
        for right in [
            "loss.alpha = [0.25, 0.5]",
            "loss.gamma = 1",
            "loss.class_weights = [1.0, 2.0]",
            "loss.class_weights = \"effective_number\"",
            "data.fixed_size = [512, 512]",
            "data.train.annotations = \"a.json\"",
            "train.milestones = []",
            "model.weights = \"resnet50.pth\"",
            "extends = \"base.toml\"",
            "data.more_train = [{ annotations = \"a\", images = \"b\", weight = 2.0 }]",
            "data.classes = { keep = [\"a\"], rename = { b = \"c\" }, join = { d = [\"e\"] }, dropped = \"ignored\" }",
            "data.backgrounds = [\"street\"]",
            "data.backgrounds_share = 0.1",
            "data.augment.transforms = [{ kind = \"mosaic\", scale = [0.5, 1.0] }, { kind = \"grey\" }]",
        ] {
            assert!(fits(&schema, &toml(right)), "{right}");
        }
        for wrong in [
            "train.epoch = 3",
            "data.train.labels = \"a\"",
            "loss.kind = \"hinge\"",
            "loss.alpha = \"a\"",
            "loss.class_weights = \"ohem\"",
            "data.fixed_size = [512]",
            "data.more_train = [{ annotation = \"a\" }]",
            "data.classes.kept = [\"a\"]",
            "data.classes.dropped = \"crowd\"",
            "data.backgrounds = \"street\"",
            "train.epochs = \"three\"",
            "model.backbone = \"resnet19\"",
            "extends = [\"a.toml\", \"b.toml\"]",
            "train.extends = \"base.toml\"",
            "data.augment.transforms = [{ kind = \"mosaics\" }]",
            "data.augment.transforms = [{ kind = \"grey\", degrees = 3 }]",
        ] {
            assert!(!fits(&schema, &toml(wrong)), "{wrong}");
        }
    }

    #[test]
    fn keys_have_descriptions_values_and_defaults() {
        let schema = schema();
        let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(at("/$schema"), "https://json-schema.org/draft/2020-12/schema");
        let epochs = at("/properties/train/properties/epochs");
        assert_eq!((&epochs["type"], &epochs["default"]), (&json!("integer"), &json!(12)));
        assert_eq!(
            epochs["description"],
            "Number of passes over the training set (epochs); at least 1. Default: `12`."
        );
        assert_eq!(at("/properties/eval/properties/score_threshold/default"), &json!(0.05));
        assert_eq!(at("/properties/data/properties/mean/default"), &json!([0.485, 0.456, 0.406]));
        let kind = at("/properties/loss/properties/kind");
        assert_eq!(kind["default"], "focal");
        let values: Vec<&Value> = kind["oneOf"].as_array().unwrap().iter().map(|one| &one["const"]).collect();
        assert_eq!(values, ["focal", "cross_entropy", "balanced_cross_entropy", "ohem", "quality_focal"]);
        assert!(kind["oneOf"].as_array().unwrap().iter().all(|one| one["description"].is_string()));
    }
}
