//! JSON values before their meaning is checked, so that an error can name the record that contains them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value as found in a file. A list or an object is reduced to its kind.
#[derive(Debug, Default)]
pub(crate) enum Scalar {
    /// The field is absent or null.
    #[default]
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List,
    Object,
}

/// The largest magnitude up to which every integer is exact as an `f64` (2^53).
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Number of letters of a string that are shown.
const SHOWN: usize = 60;

impl Scalar {
    /// An unsigned integer; one that no `i64` can hold becomes a float.
    pub(crate) fn of_u64(v: u64) -> Self {
        i64::try_from(v).map_or(Scalar::Float(v as f64), Scalar::Int)
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Scalar::Missing)
    }

    /// The value as an integer, also if it is written as an integral float (`3.0`, as pandas writes).
    pub(crate) fn integer(&self) -> Option<i64> {
        match *self {
            Scalar::Int(v) => Some(v),
            Scalar::Float(v) if v.fract() == 0.0 && v.abs() <= MAX_EXACT => Some(v as i64),
            _ => None,
        }
    }

    /// The value as a number. A missing value is NaN, because `NaN` in a file is replaced by `null` before parsing.
    pub(crate) fn number(&self) -> Option<f64> {
        match *self {
            Scalar::Int(v) => Some(v as f64),
            Scalar::Float(v) => Some(v),
            Scalar::Missing => Some(f64::NAN),
            _ => None,
        }
    }

    /// The value as a flag, which may be written as a Boolean or as a whole number; a missing flag is false.
    pub(crate) fn flag(&self) -> Option<bool> {
        match *self {
            Scalar::Missing => Some(false),
            Scalar::Bool(v) => Some(v),
            Scalar::Int(v) => Some(v != 0),
            Scalar::Float(v) if v.fract() == 0.0 => Some(v != 0.0),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Missing => f.write_str("missing"),
            Scalar::Bool(v) => write!(f, "{v}"),
            Scalar::Int(v) => write!(f, "{v}"),
            Scalar::Float(v) => write!(f, "{v:?}"),
            Scalar::Text(v) if v.chars().nth(SHOWN).is_some() => {
                let start: String = v.chars().take(SHOWN).collect();
                write!(f, "the string {start:?}…")
            }
            Scalar::Text(v) => write!(f, "the string {v:?}"),
            Scalar::List => f.write_str("a list"),
            Scalar::Object => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Missing)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
        Ok(Scalar::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Scalar, E> {
        Ok(Scalar::of_u64(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}

/// A list of four numbers as found in a file, or what was found instead.
#[derive(Debug, Default)]
pub(crate) enum Numbers {
    /// The field is absent or null.
    #[default]
    Missing,
    Four([Scalar; 4]),
    /// A list of another length.
    Length(usize),
    Other(Scalar),
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_unit<E>(self) -> Result<Numbers, E> {
        Ok(Numbers::Missing)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Numbers, E> {
        Ok(Numbers::Other(Scalar::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Numbers, E> {
        Ok(Numbers::Other(Scalar::Int(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Numbers, E> {
        Ok(Numbers::Other(Scalar::of_u64(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Numbers, E> {
        Ok(Numbers::Other(Scalar::Float(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Numbers, E> {
        Ok(Numbers::Other(Scalar::Text(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
        let mut four = [Scalar::Missing, Scalar::Missing, Scalar::Missing, Scalar::Missing];
        let mut length = 0;
        while length < four.len() {
            let Some(value) = seq.next_element()? else { return Ok(Numbers::Length(length)) };
            four[length] = value;
            length += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            length += 1;
        }
        Ok(if length == four.len() { Numbers::Four(four) } else { Numbers::Length(length) })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Numbers, A::Error> {
        ScalarVisitor.visit_map(map).map(Numbers::Other)
    }
}
