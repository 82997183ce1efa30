//! One list of licences from those of several files.

use std::collections::HashMap;

use foveal_coco::Members;
use serde_json::{Map, Value};

use crate::SetFile;
use crate::fresh::Ids;

/// The new ids of the licences of a file, where they changed.
#[derive(Debug, Default)]
pub(super) struct LicenseIds(HashMap<i64, i64>);

impl LicenseIds {
    /// Replaces the id of the licence in the members of an image.
    pub(super) fn apply(&self, image: &mut Members) {
        if self.0.is_empty() {
            return;
        }
        let new = image.get("license").and_then(|id| id.as_i64()).and_then(|id| self.0.get(&id));
        if let Some(new) = new {
            image.set("license", Value::from(*new));
        }
    }
}

/// Joins the lists `licenses` of all files: equal licences become one, and ids that collide are replaced. Returns the
/// list, if a file has one, and the new ids of each file. Entries that are no object with an integer `id` are kept as
/// they are.
pub(super) fn joined(inputs: &[SetFile]) -> (Option<Value>, Vec<LicenseIds>) {
    let lists: Vec<Option<Value>> = inputs.iter().map(|set| set.dataset.others.get("licenses")).collect();
    let entries = |list: &Option<Value>| list.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    let id_of = |entry: &Value| entry.get("id").and_then(Value::as_i64);
    let all: Vec<Vec<Value>> = lists.iter().map(entries).collect();
    let mut ids = Ids::above(all.iter().flatten().filter_map(id_of));
    let mut out: Vec<Value> = Vec::new();
    let mut changes = Vec::with_capacity(all.len());
    for entries in &all {
        let mut changed = LicenseIds::default();
        for entry in entries {
            let Some(id) = id_of(entry) else {
                if !out.contains(entry) {
                    out.push(entry.clone());
                }
                continue;
            };
            let known = out.iter().find(|known| content(known) == content(entry)).and_then(id_of);
            let new = known.unwrap_or_else(|| {
                let new = ids.take(id);
                let mut entry = entry.clone();
                entry["id"] = Value::from(new);
                out.push(entry);
                new
            });
            if new != id {
                changed.0.insert(id, new);
            }
        }
        changes.push(changed);
    }
    (lists.iter().any(Option::is_some).then_some(Value::Array(out)), changes)
}

/// A licence without its id.
fn content(entry: &Value) -> Option<Map<String, Value>> {
    let mut map = entry.as_object()?.clone();
    map.retain(|key, _| key != "id");
    Some(map)
}
