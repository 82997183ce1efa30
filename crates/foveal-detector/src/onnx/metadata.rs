//! Metadata of an exported ONNX file.

use serde_json::json;

use super::schema::StringStringEntryProto;
use crate::CheckpointMeta;

/// Entries of the file's metadata, each with a JSON value: class names and category ids in class order, preprocessing,
/// thresholds and architecture.
pub(super) fn metadata(meta: &CheckpointMeta) -> Vec<StringStringEntryProto> {
    let names: Vec<&str> = meta.categories.iter().map(|c| c.name.as_str()).collect();
    let ids: Vec<i64> = meta.categories.iter().map(|c| c.id).collect();
    [
        ("class_names", json!(names)),
        ("category_ids", json!(ids)),
        ("preprocess", json!(meta.preprocess)),
        ("post", json!(meta.post)),
        ("model", json!(meta.model)),
    ]
    .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value: value.to_string() })
    .into()
}
