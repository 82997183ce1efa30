//! A COCO annotation file as it is read: its usable records with their places, and its bad records.

use std::{collections::HashSet, fmt, io::Read, path::Path, rc::Rc};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{
    Annotation, BadRecord, Category, CocoDataset, CocoError, Finding, Image, List, Place,
    json::{self, Progress},
    meaning::{self, ImageFields},
    raw::{ListSeed, Raw},
    source,
    whole::OtherMembers,
};

/// Number of bad records of a file that are described; the others are only counted. A file of bad records alone would
/// else take far more memory than its size.
const DESCRIBED: usize = 10_000;

/// A COCO annotation file. Records that cannot be used are listed and left out, so that they do not prevent the use of
/// the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CocoFile {
    /// The records that can be read, in the order of the file.
    pub dataset: CocoDataset,
    /// The records that cannot be read.
    pub bad: BadRecords,
    /// Places of the records of `dataset`, in its order.
    places: [Vec<Spot>; 3],
    /// What the records of `dataset` have no fields for, if it was asked for.
    pub(crate) others: Option<OtherMembers>,
}

/// Index and line of a record in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spot {
    index: u32,
    line: u32,
}

/// The bad records of a file, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BadRecords {
    /// The first 10,000 bad records of the file.
    pub described: Vec<BadRecord>,
    /// Number of all bad records of the lists `images`, `annotations` and `categories`.
    counts: [usize; 3],
    /// Ids of the bad records of `images`, as far as they can be read.
    images: HashSet<i64>,
}

impl BadRecords {
    /// Number of bad records of a list of an annotation file, including those that are not described.
    pub fn count(&self, list: List) -> usize {
        slot(list).map_or(0, |slot| self.counts[slot])
    }

    /// Number of all bad records.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Ids of the bad records of `images`, as far as they can be read. Their annotations cannot be used either.
    pub fn image_ids(&self) -> &HashSet<i64> {
        &self.images
    }

    fn add(&mut self, slot: usize, bad: BadRecord) {
        self.counts[slot] += 1;
        if let (List::Images, Some(id)) = (bad.place.list, bad.id) {
            self.images.insert(id);
        }
        if self.described.len() < DESCRIBED {
            self.described.push(bad);
        }
    }
}

/// The position of a list of an annotation file in arrays.
fn slot(list: List) -> Option<usize> {
    match list {
        List::Images => Some(0),
        List::Annotations => Some(1),
        List::Categories => Some(2),
        List::Detections => None,
    }
}

/// The lists that a reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// `images`, `annotations` and `categories`.
    All,
    /// `images`, `annotations` and `categories`, and all that the file contains beside the fields of their records.
    Whole,
    /// The ids and names of `images`. The other lists may be absent.
    Names,
}

impl CocoFile {
    /// Reads a COCO annotation file, gzipped or not, in UTF-8 or UTF-16.
    ///
    /// # Errors
    /// - [`CocoError::Read`] if the path is not a regular file, or cannot be read or unpacked.
    /// - [`CocoError::Json`] with the file and line if the text is not JSON, or a list is something else.
    /// - [`CocoError::MissingSection`] if `images`, `annotations` or `categories` is absent.
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        parse(source::open(path)?, path, Needed::All)
    }

    /// Reads a COCO annotation file with all that it contains: [`CocoFile::into_whole`] then gives the members of the
    /// records that no command of training needs, such as `segmentation`, too. They take about as much memory as their
    /// text.
    ///
    /// # Errors
    /// The errors of [`CocoFile::read`].
    pub fn read_whole(path: &Path) -> Result<Self, CocoError> {
        parse(source::open(path)?, path, Needed::Whole)
    }

    /// Reads the ids and file names of the images of a COCO annotation file. The lists `annotations` and `categories`
    /// are not needed, as in the files that describe COCO's test sets; they are not read. The sizes of the images are
    /// 0.
    ///
    /// # Errors
    /// - [`CocoError::Read`] if the path is not a regular file, or cannot be read or unpacked.
    /// - [`CocoError::Json`] with the file and line if the text is not JSON, or `images` is no list.
    /// - [`CocoError::MissingSection`] if `images` is absent.
    pub fn read_names(path: &Path) -> Result<Self, CocoError> {
        parse(source::open(path)?, path, Needed::Names)
    }

    /// Parses the content of a COCO annotation file, gzipped or not. `path` is only used in error messages.
    ///
    /// # Errors
    /// The errors of [`CocoFile::read`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CocoError> {
        parse(source::from_bytes(bytes, path)?, path, Needed::All)
    }

    /// The content of the file if it has no bad record.
    ///
    /// # Errors
    /// [`CocoError::Json`] with the place and defect of the first bad record.
    pub fn without_bad_records(self, path: &Path) -> Result<CocoDataset, CocoError> {
        match self.bad.described.into_iter().next() {
            None => Ok(self.dataset),
            Some(first) => Err(bad_record(&first, self.bad.counts.iter().sum(), path)),
        }
    }

    /// The place of a record of [`CocoFile::dataset`]; `None` if the list has no record with this index.
    pub fn place(&self, list: List, index: usize) -> Option<Place> {
        let Spot { index, line } = *self.places[slot(list)?].get(index)?;
        Some(Place { list, index, line })
    }

    /// Lists the defects of single records that can be read, as [`CocoDataset::findings`] does, with the places of the
    /// records. Annotations of bad image records are not listed.
    pub fn findings(&self) -> Vec<(Finding, Place)> {
        let mut findings = Vec::new();
        self.dataset.find(&self.bad.images, |list, index, finding| {
            let place = self.place(list, index).expect("every record that was read has a place");
            findings.push((finding, place));
        });
        findings
    }

    fn take<T>(
        &mut self,
        raw: Raw,
        place: Place,
        column: u64,
        meaning: impl FnOnce(Raw) -> Result<T, String>,
    ) -> Option<T> {
        let ids = meaning::ids(&raw);
        let (raw, others) = raw.without_others();
        let slot = slot(place.list).expect("a list of an annotation file");
        match meaning(raw) {
            Ok(record) => {
                if let Some(kept) = &mut self.others {
                    kept.records[slot].push(others.compact());
                }
                self.places[slot].push(Spot { index: place.index, line: place.line });
                Some(record)
            }
            Err(message) => {
                let [id, of_image] = ids;
                let image_id = if place.list == List::Images { id } else { of_image };
                self.bad.add(slot, BadRecord { place, column, id, image_id, message });
                None
            }
        }
    }

    /// Empties a list, because the file has another one under the same key.
    fn forget(&mut self, slot: usize) {
        self.places[slot].clear();
        if let Some(kept) = &mut self.others {
            kept.records[slot].clear();
        }
    }

    fn add_image(&mut self, raw: Raw, place: Place, column: u64, fields: ImageFields) {
        let image: Option<Image> = self.take(raw, place, column, |raw| meaning::image(raw, fields));
        self.dataset.images.extend(image);
    }

    fn add_annotation(&mut self, raw: Raw, place: Place, column: u64) {
        let annotation: Option<Annotation> = self.take(raw, place, column, meaning::annotation);
        self.dataset.annotations.extend(annotation);
    }

    fn add_category(&mut self, raw: Raw, place: Place, column: u64) {
        let category: Option<Category> = self.take(raw, place, column, meaning::category);
        self.dataset.categories.extend(category);
    }
}

/// The error of a file with bad records, of which `first` is the first, where every record has to be read.
pub(crate) fn bad_record(first: &BadRecord, count: usize, path: &Path) -> CocoError {
    let more = match count - 1 {
        0 => String::new(),
        1 => " (and one more record cannot be read)".to_owned(),
        more => format!(" (and {more} more records cannot be read)"),
    };
    let Place { list, index, line } = first.place;
    CocoError::Json {
        path: path.to_owned(),
        line: line as usize,
        column: usize::try_from(first.column).unwrap_or(usize::MAX),
        message: format!("{}[{index}]: {}{more}", list.key(), first.message),
    }
}

fn parse<'a>(source: Box<dyn Read + 'a>, path: &Path, needed: Needed) -> Result<CocoFile, CocoError> {
    let Sections { file, present } = json::parse(source, path, |progress| SectionsSeed { progress, needed })?;
    for (section, present) in [List::Images, List::Annotations, List::Categories].into_iter().zip(present) {
        if !present && (needed != Needed::Names || section == List::Images) {
            let expected = match needed {
                Needed::All | Needed::Whole => {
                    "a COCO annotation file must contain the lists `images`, `annotations` and `categories`"
                }
                Needed::Names => "a COCO file with image ids must contain the list `images`",
            };
            return Err(CocoError::MissingSection { path: path.to_owned(), section: section.key(), expected });
        }
    }
    Ok(file)
}

/// A file and which of the lists `images`, `annotations` and `categories` it has.
struct Sections {
    file: CocoFile,
    present: [bool; 3],
}

/// Reads the object that is an annotation file. It is written by hand because a derived reader would also accept a JSON
/// list in place of the object.
struct SectionsSeed {
    progress: Rc<Progress>,
    needed: Needed,
}

impl<'de> DeserializeSeed<'de> for SectionsSeed {
    type Value = Sections;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Sections, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SectionsSeed {
    type Value = Sections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a COCO object with the lists `images`, `annotations` and `categories`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sections, A::Error> {
        let keep = self.needed == Needed::Whole;
        let mut file = CocoFile { others: keep.then(OtherMembers::default), ..CocoFile::default() };
        let mut present = [false; 3];
        let progress = &*self.progress;
        while let Some(key) = map.next_key::<String>()? {
            let all = self.needed != Needed::Names;
            match key.as_str() {
                "images" => {
                    let fields = if all { ImageFields::All } else { ImageFields::Names };
                    file.dataset.images.clear();
                    file.forget(0);
                    let take = |raw, place, column| file.add_image(raw, place, column, fields);
                    present[0] = map.next_value_seed(ListSeed { list: List::Images, progress, keep, take })?;
                }
                "annotations" if all => {
                    file.dataset.annotations.clear();
                    file.forget(1);
                    let take = |raw, place, column| file.add_annotation(raw, place, column);
                    present[1] = map.next_value_seed(ListSeed { list: List::Annotations, progress, keep, take })?;
                }
                "categories" if all => {
                    file.dataset.categories.clear();
                    file.forget(2);
                    let take = |raw, place, column| file.add_category(raw, place, column);
                    present[2] = map.next_value_seed(ListSeed { list: List::Categories, progress, keep, take })?;
                }
                other => match &mut file.others {
                    Some(kept) => kept.file.read(other, &mut map)?,
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(Sections { file, present })
    }
}
