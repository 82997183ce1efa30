//! A JSON schema of the configuration, by its defaults.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{PATH_KEYS, keys};

/// The schema: every key with its type and default; other keys are refused.
///
/// # Errors
/// Never with the configuration as it is.
pub fn schema() -> Result<Value> {
    let mut schema = of(&keys::known()?, "");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("foveal configuration");
    Ok(schema)
}

fn of(value: &Value, path: &str) -> Value {
    let kind = match value {
        Value::Object(inner) => {
            let properties: Map<String, Value> = inner
                .iter()
                .map(|(key, value)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    (key.clone(), of(value, &path))
                })
                .collect();
            return json!({"type": "object", "properties": properties, "additionalProperties": false});
        }
        Value::Null if PATH_KEYS.contains(&path) => return json!({"type": "string"}),
        Value::Null => return json!({}),
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(items) => {
            let items = items.first().map_or(json!({}), |first| json!({"type": of(first, path)["type"]}));
            return json!({"type": "array", "items": items, "default": value});
        }
    };
    json!({"type": kind, "default": value})
}
