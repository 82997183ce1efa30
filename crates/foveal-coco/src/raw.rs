//! Records of COCO files before the meaning of their fields is checked, and the walk through a list of them.
//!
//! A value of any type is accepted for every field and every record, so that one bad record does not end the reading.

use std::fmt;

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::StrDeserializer,
    },
};

use crate::{
    Members,
    json::{List, Place, Progress},
    scalar::{Numbers, Scalar},
};

/// The fields of all kinds of records. A field that is absent, or that the kind of record does not have, is missing.
#[derive(Debug, Default)]
pub(crate) struct RawRecord {
    pub(crate) id: Scalar,
    pub(crate) file_name: Scalar,
    pub(crate) width: Scalar,
    pub(crate) height: Scalar,
    pub(crate) image_id: Scalar,
    pub(crate) category_id: Scalar,
    pub(crate) bbox: Numbers,
    pub(crate) area: Scalar,
    pub(crate) iscrowd: Scalar,
    pub(crate) name: Scalar,
    pub(crate) supercategory: Scalar,
    pub(crate) score: Scalar,
    /// All other members, if they are kept.
    pub(crate) others: Members,
}

/// A record, or the value that was found instead of an object.
#[derive(Debug)]
pub(crate) enum Raw {
    Record(Box<RawRecord>),
    Other(Scalar),
}

impl Raw {
    /// Takes the members off that the record has no fields for.
    pub(crate) fn without_others(mut self) -> (Self, Members) {
        let others = match &mut self {
            Raw::Record(record) => std::mem::take(&mut record.others),
            Raw::Other(_) => Members::default(),
        };
        (self, others)
    }
}

/// The keys of [`RawRecord`]; all others, such as `segmentation`, are skipped unread unless they are kept.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    FileName,
    Width,
    Height,
    ImageId,
    CategoryId,
    Bbox,
    Area,
    Iscrowd,
    Name,
    Supercategory,
    Score,
    #[serde(other)]
    Unused,
}

impl Field {
    /// The keys of the records of a list. In other lists they are keys without a meaning.
    fn of(list: List) -> &'static [Field] {
        match list {
            List::Images => &[Field::Id, Field::FileName, Field::Width, Field::Height],
            List::Annotations => {
                &[Field::Id, Field::ImageId, Field::CategoryId, Field::Bbox, Field::Area, Field::Iscrowd]
            }
            List::Categories => &[Field::Id, Field::Name, Field::Supercategory],
            List::Detections => &[Field::ImageId, Field::CategoryId, Field::Bbox, Field::Score],
        }
    }
}

/// Reads a record. With a list, the members that the records of this list have no fields for are kept.
struct RawVisitor {
    keep: Option<List>,
}

impl RawVisitor {
    /// The next key that is a field. Other members before it are added to `others` if they are kept.
    fn next_field<'de, A: MapAccess<'de>>(&self, map: &mut A, others: &mut Members) -> Result<Option<Field>, A::Error> {
        let Some(list) = self.keep else { return map.next_key() };
        while let Some(key) = map.next_key::<String>()? {
            let name: StrDeserializer<'_, A::Error> = key.as_str().into_deserializer();
            let field = Field::deserialize(name)?;
            if Field::of(list).contains(&field) {
                return Ok(Some(field));
            }
            others.read(&key, map)?;
        }
        Ok(None)
    }
}

impl<'de> DeserializeSeed<'de> for RawVisitor {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut record = Box::<RawRecord>::default();
        while let Some(field) = self.next_field(&mut map, &mut record.others)? {
            let slot = match field {
                Field::Id => &mut record.id,
                Field::FileName => &mut record.file_name,
                Field::Width => &mut record.width,
                Field::Height => &mut record.height,
                Field::ImageId => &mut record.image_id,
                Field::CategoryId => &mut record.category_id,
                Field::Area => &mut record.area,
                Field::Iscrowd => &mut record.iscrowd,
                Field::Name => &mut record.name,
                Field::Supercategory => &mut record.supercategory,
                Field::Score => &mut record.score,
                Field::Bbox => {
                    record.bbox = map.next_value()?;
                    continue;
                }
                Field::Unused => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = map.next_value()?;
        }
        Ok(Raw::Record(record))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::Missing))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::Int(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::of_u64(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::Float(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Other(Scalar::Text(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Raw::Other(Scalar::List))
    }
}

/// Walks through a list of records and gives each to `take` with its place and its column. The value is whether the
/// list is there: `null` is no list.
pub(crate) struct ListSeed<'a, F> {
    pub(crate) list: List,
    pub(crate) progress: &'a Progress,
    /// Whether members that have no fields are kept.
    pub(crate) keep: bool,
    pub(crate) take: F,
}

impl<'de, F: FnMut(Raw, Place, u64)> DeserializeSeed<'de> for ListSeed<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Raw, Place, u64)> Visitor<'de> for ListSeed<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list {
            List::Detections => f.write_str("a list of detections (a COCO results file)"),
            list => write!(f, "the list `{}`", list.key()),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        match self.list {
            List::Detections => Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
            _ => Ok(false),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<bool, A::Error> {
        let mut index = 0;
        let keep = self.keep.then_some(self.list);
        // The parser has read the first byte of an element when it is asked for, so that the line is that of its start.
        while let Some((raw, line)) = seq.next_element_seed(Element { progress: self.progress, keep })? {
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            (self.take)(raw, Place { list: self.list, index, line }, self.progress.column());
            index = index.checked_add(1).ok_or_else(|| A::Error::custom("a list has more than 4294967295 records"))?;
        }
        Ok(true)
    }
}

/// One record and the line of its start.
struct Element<'a> {
    progress: &'a Progress,
    keep: Option<List>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = (Raw, u64);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(Raw, u64), D::Error> {
        let line = self.progress.line();
        Ok((RawVisitor { keep: self.keep }.deserialize(deserializer)?, line))
    }
}
