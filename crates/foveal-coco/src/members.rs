//! The members of a JSON object that have no field of their own, kept as text.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The members of a JSON object that no field of a record holds, such as `segmentation` and `license`. They are kept as
/// compact JSON text, which takes a fraction of the memory of parsed values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// `"key":value` pairs, separated by commas and without the braces of the object.
    text: String,
}

impl Members {
    /// Makes the text of these members, in their order.
    pub fn new(members: &Map<String, Value>) -> Self {
        let mut all = Self::default();
        for (key, value) in members {
            all.begin(key);
            all.text += &value.to_string();
        }
        all
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The members as `"key":value` pairs of JSON, separated by commas and without braces.
    pub fn as_json(&self) -> &str {
        &self.text
    }

    /// Parses the members. Of several members with one key, the last is returned.
    pub fn to_map(&self) -> Map<String, Value> {
        let parsed = serde_json::from_str(&format!("{{{}}}", self.text));
        parsed.expect("the text is written from values that were parsed")
    }

    /// The value of a member, or `None` if there is no member with this key.
    pub fn get(&self, key: &str) -> Option<Value> {
        // Most records lack most keys, and a search in the text is faster than parsing it.
        if self.text.contains(&quoted(key)) { self.to_map().remove(key) } else { None }
    }

    /// Replaces the value of a member, or adds the member.
    pub fn set(&mut self, key: &str, value: Value) {
        let mut map = self.to_map();
        map.insert(key.to_owned(), value);
        *self = Self::new(&map);
    }

    /// Removes the members with these keys. Returns whether there was one.
    pub fn remove(&mut self, keys: &[&str]) -> bool {
        if !keys.iter().any(|key| self.text.contains(&quoted(key))) {
            return false;
        }
        let mut map = self.to_map();
        let before = map.len();
        map.retain(|key, _| !keys.contains(&key.as_str()));
        let removed = map.len() < before;
        if removed {
            *self = Self::new(&map);
        }
        removed
    }

    /// The same members in no more memory than their text needs.
    pub(crate) fn compact(mut self) -> Self {
        self.text.shrink_to_fit();
        self
    }

    /// Writes the key of a member, whose value must follow.
    fn begin(&mut self, key: &str) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text += &quoted(key);
        self.text.push(':');
    }

    /// Reads the value of a member with this key.
    pub(crate) fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        self.begin(key);
        map.next_value_seed(Copied(&mut self.text))
    }
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Appends what a value is shown as.
fn append(text: &mut String, value: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{value}");
}

/// Appends a value to a text as compact JSON, without keeping it.
struct Copied<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Copied<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copied<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.0 += "null";
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        *self.0 += if v { "true" } else { "false" };
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        append(self.0, v);
        Ok(())
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        append(self.0, v);
        Ok(())
    }

    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        append(self.0, Value::from(v));
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        *self.0 += &quoted(v);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push('[');
        let start = self.0.len();
        loop {
            let end = self.0.len();
            if end > start {
                self.0.push(',');
            }
            if seq.next_element_seed(Copied(&mut *self.0))?.is_none() {
                self.0.truncate(end);
                break;
            }
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push('{');
        let start = self.0.len();
        while let Some(key) = map.next_key::<String>()? {
            if self.0.len() > start {
                self.0.push(',');
            }
            *self.0 += &quoted(&key);
            self.0.push(':');
            map.next_value_seed(Copied(&mut *self.0))?;
        }
        self.0.push('}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Members {
        let Value::Object(map) = value else { panic!("{value}") };
        Members::new(&map)
    }

    #[test]
    fn members_are_found_set_and_removed() {
        let mut all = members(json!({"a": [1, 2.5], "b \"x\"": "c", "e": null}));
        assert_eq!(all.as_json(), r#""a":[1,2.5],"b \"x\"":"c","e":null"#);
        assert_eq!((all.get("a"), all.get("c")), (Some(json!([1, 2.5])), None));
        assert_eq!((all.get("b \"x\""), all.get("e")), (Some(json!("c")), Some(Value::Null)));
        all.set("a", json!({"k": 1}));
        all.set("z", json!(true));
        // A key that occurs as text only inside a value is no member.
        assert!(!all.remove(&["k"]) && all.get("k").is_none());
        assert!(all.remove(&["e", "none"]));
        assert_eq!(all.to_map(), json!({"a": {"k": 1}, "b \"x\"": "c", "z": true}).as_object().unwrap().clone());
        assert!(Members::default().is_empty() && Members::default().to_map().is_empty());
    }

    #[test]
    fn values_are_copied_as_they_are() {
        let text =
            r#"{"x":[[],{},[1,-2,18446744073709551615,0.1,1e300],{"k":"é\n\"","l":[true,false,null]}],"y":-0.0}"#;
        let mut out = String::new();
        let mut parser = serde_json::Deserializer::from_str(text);
        Copied(&mut out).deserialize(&mut parser).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        assert!(out.starts_with(r#"{"x":[[],{},[1,-2,18446744073709551615,0.1,"#), "{out}");
    }
}
