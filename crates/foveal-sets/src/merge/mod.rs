//! Several data sets as one: classes joined by name, ids renumbered where they collide.

mod classes;
mod file_names;
mod licenses;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use foveal_coco::{Annotation, Members, WholeDataset};

use crate::fresh::Ids;
use crate::{ChangeReport, InputCounts, SetCounts, SetFile, SetsError};

pub use file_names::FileNames;

/// What happens to an image that several files contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameImage {
    /// It is an error.
    #[default]
    Error,
    /// The image and its objects are those of the first file.
    First,
    /// The image is that of the first file; it has the objects of all files. An object that has the same class and
    /// exactly the same box in two files is kept once.
    Both,
}

/// How data sets are joined.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// What becomes of the file names of the images.
    pub names: FileNames,
    /// Whether classes become one whose names differ only in case, Unicode form, spaces, underscores and hyphens.
    pub join_alike: bool,
    /// What happens to an image that several files contain.
    pub same_image: SameImage,
}

/// A data set made of several.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The data set.
    pub dataset: WholeDataset,
    /// The folder that the file names are relative to, if the options name folders.
    pub folder: Option<PathBuf>,
    /// The counts and what was decided.
    pub report: ChangeReport,
}

/// Joins data sets. The images, annotations and categories of the first one come first, then those of the second one
/// that it does not have, and so on.
///
/// - Classes with the same name become one, with the record of the first file that has it.
/// - Ids stay as they are where no earlier file has them; other records get new ids above all existing ones. The ids of
///   licences are handled likewise.
/// - Images with the same file name are the same image; [`MergeOptions::same_image`] says what happens to them. Images
///   that are listed twice in one file stay as they are.
/// - Members of the files beside the lists and the licences, such as `info`, are those of the first file that has them.
///
/// # Errors
/// [`SetsError::SameImage`] or [`SetsError::Sizes`] for images that several files contain; [`SetsError::Io`] if the
/// folder of images cannot be named absolutely; [`SetsError::Option`] if the number of folders or prefixes is not that
/// of the files.
pub fn merge(inputs: Vec<SetFile>, options: &MergeOptions) -> Result<Merged, SetsError> {
    let (names, folder) = file_names::changed(&inputs, &options.names)?;
    let counts = inputs.iter().map(InputCounts::of).collect();
    let mut notes = Vec::new();
    let mut warnings: Vec<String> = inputs.iter().flat_map(|set| set.warnings.clone()).collect();
    let same = same_images(&inputs, &names, options.same_image)?;
    let (categories, class_ids) = classes::joined(&inputs, options.join_alike, &mut notes, &mut warnings);
    let (licenses, license_ids) = licenses::joined(&inputs);
    let mut image_ids = Ids::above(inputs.iter().flat_map(|set| set.dataset.images.iter().map(|i| i.record.id)));
    let mut ids = Ids::above(inputs.iter().flat_map(|set| set.dataset.annotations.iter().map(|a| a.record.id)));
    let mut dataset = WholeDataset { categories, ..WholeDataset::default() };
    // The images that a later file has again.
    let shared: HashSet<(usize, i64)> = same.iter().flat_map(HashMap::values).copied().collect();
    let mut seen = Seen::default();
    let mut renumbered = [0, 0];
    for (index, (set, names)) in inputs.into_iter().zip(names).enumerate() {
        let SetFile { dataset: WholeDataset { images, annotations, others, .. }, .. } = set;
        // The id of each image in the output, and whether an earlier file has it.
        let mut of_image: HashMap<i64, (i64, bool)> = HashMap::with_capacity(images.len());
        for (mut image, name) in images.into_iter().zip(names) {
            let old = image.record.id;
            if let Some(first) = same[index].get(&old) {
                of_image.insert(old, (seen.images[first], true));
                continue;
            }
            image.record.id = image_ids.take(old);
            renumbered[0] += usize::from(image.record.id != old);
            image.record.file_name = name;
            license_ids[index].apply(&mut image.others);
            seen.images.insert((index, old), image.record.id);
            of_image.insert(old, (image.record.id, false));
            dataset.images.push(image);
        }
        for mut annotation in annotations {
            let record = &mut annotation.record;
            let is_shared = shared.contains(&(index, record.image_id));
            let (image_id, again) = of_image[&record.image_id];
            (record.image_id, record.category_id) = (image_id, class_ids[index][&record.category_id]);
            if again && options.same_image == SameImage::First {
                seen.left_out += 1;
                continue;
            }
            if again || is_shared {
                let file = *seen.objects.entry(Object::of(record)).or_insert(index);
                if file < index {
                    seen.twice += 1;
                    continue;
                }
            }
            let old = record.id;
            record.id = ids.take(old);
            renumbered[1] += usize::from(record.id != old);
            dataset.annotations.push(annotation);
        }
        Seen::keep_others(&mut dataset.others, &others, &mut notes);
    }
    if let Some(licenses) = licenses {
        dataset.others.set("licenses", licenses);
    }
    describe(same.iter().map(HashMap::len).sum(), &seen, renumbered, options.same_image, &mut notes);
    let report = ChangeReport { inputs: counts, output: SetCounts::of(&dataset), notes, warnings };
    Ok(Merged { dataset, folder, report })
}

/// An object, to find the same one again: image, class, box and whether it is a crowd region.
#[derive(PartialEq, Eq, Hash)]
struct Object(i64, i64, [u64; 4], bool);

impl Object {
    fn of(record: &Annotation) -> Self {
        Self(record.image_id, record.category_id, record.bbox.map(f64::to_bits), record.iscrowd)
    }
}

/// What the files so far contained.
#[derive(Default)]
struct Seen {
    /// The id in the output of each image, by its file and its id there.
    images: HashMap<(usize, i64), i64>,
    /// Objects of images that several files have, with the first file that has them.
    objects: HashMap<Object, usize>,
    /// Number of objects that were left out because an earlier file has their image.
    left_out: usize,
    /// Number of objects that were left out because an earlier file has them.
    twice: usize,
}

impl Seen {
    /// Keeps the members of a file that no earlier file has.
    fn keep_others(kept: &mut Members, others: &Members, notes: &mut Vec<String>) {
        let mut all = kept.to_map();
        for (key, value) in others.to_map().into_iter().filter(|(key, _)| key != "licenses") {
            match all.get(&key) {
                None => {
                    all.insert(key, value);
                }
                Some(known) if *known != value => {
                    let note = format!("{key:?} is that of the first file that has it");
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                Some(_) => {}
            }
        }
        *kept = Members::new(&all);
    }
}

/// The images of a file, by their ids, that an earlier file has: the index of that file, and the id there.
type SameImages = HashMap<i64, (usize, i64)>;

/// Finds the images of each file that an earlier file has.
fn same_images(inputs: &[SetFile], names: &[Vec<String>], rule: SameImage) -> Result<Vec<SameImages>, SetsError> {
    let mut first: HashMap<String, (usize, usize)> = HashMap::new();
    let mut same: Vec<SameImages> = vec![HashMap::new(); inputs.len()];
    let mut example = None;
    for (index, (set, names)) in inputs.iter().zip(names).enumerate() {
        for (at, (image, name)) in set.dataset.images.iter().zip(names).enumerate() {
            if name.is_empty() {
                continue;
            }
            let (file, place) = *first.entry(file_names::normal(name)).or_insert((index, at));
            if file == index {
                continue;
            }
            let known = &inputs[file].dataset.images[place].record;
            let sizes = [(known.width, known.height), (image.record.width, image.record.height)];
            let (first, second) = (inputs[file].path.clone(), set.path.clone());
            let is_known = sizes.iter().all(|(width, height)| *width > 0 && *height > 0);
            if rule == SameImage::Both && is_known && sizes[0] != sizes[1] {
                return Err(SetsError::Sizes { first, second, name: name.clone(), sizes });
            }
            example.get_or_insert((first, second, name.clone()));
            same[index].insert(image.record.id, (file, known.id));
        }
    }
    match example {
        Some((first, second, name)) if rule == SameImage::Error => {
            Err(SetsError::SameImage { first, second, name, count: same.iter().map(HashMap::len).sum() })
        }
        _ => Ok(same),
    }
}

fn describe(shared: usize, seen: &Seen, renumbered: [usize; 2], rule: SameImage, notes: &mut Vec<String>) {
    if shared > 0 {
        notes.push(match rule {
            SameImage::First => format!(
                "images in several files: {shared}; objects of later files on them, which were left out: {}",
                seen.left_out
            ),
            _ => format!(
                "images in several files: {shared}; objects on them that an earlier file has too, which are there once: {}",
                seen.twice
            ),
        });
    }
    for (count, what) in renumbered.into_iter().zip(["images", "annotations"]) {
        if count > 0 {
            notes.push(format!("{what} with new ids, because earlier files have theirs: {count}"));
        }
    }
}
