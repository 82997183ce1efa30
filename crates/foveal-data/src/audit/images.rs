//! Images: their names, equal files, images without objects, and images without colours.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::cases::{Cases, Spot};
use super::{Annotations, AuditSet};
use crate::same::{groups, same_files};
use crate::{DataError, Opened, Problem, Record};

/// Largest share of the images of a set that have no annotations, if that is suspicious. Where more have none,
/// background images were added on purpose.
const FEW_EMPTY: f64 = 0.005;
/// Largest share of the images of a set that have no colours, if that is suspicious.
const FEW_GREY: f64 = 0.2;
/// Number of images of a group that are named.
const NAMED: usize = 4;

/// Finds file names that differ from another one only in case.
pub(super) fn names(set: usize, opened: &Opened, cases: &mut Cases) {
    let mut first: HashMap<String, (usize, &Record)> = HashMap::new();
    for (image, record) in opened.dataset.records().iter().enumerate() {
        let (other, before) = *first.entry(record.file_name.to_lowercase()).or_insert((image, record));
        if before.file_name != record.file_name {
            cases.add(set, Problem::NameCase, || {
                let text = format!(
                    "image {} {} and image {} {}",
                    before.image_id, before.file_name, record.image_id, record.file_name
                );
                (text, vec![Spot::image(set, other), Spot::image(set, image)])
            });
        }
    }
}

/// Finds images without annotations where few have none, and images whose annotations are all unusable.
pub(super) fn empty(set: usize, opened: &Opened, by_image: &Annotations, cases: &mut Cases) {
    use Problem::{AnnotationRecord, DuplicateAnnotation, EmptyBox, NotFinite, OutsideBox, UnknownCategory};
    if opened.report.is_unusable() {
        return;
    }
    let of_annotations = [AnnotationRecord, DuplicateAnnotation, EmptyBox, NotFinite, OutsideBox, UnknownCategory];
    let skipped = opened.report.skipped.iter().filter(|skipped| of_annotations.contains(&skipped.problem));
    let damaged: HashSet<i64> = skipped.map(|skipped| skipped.image_id).collect();
    let data = &opened.dataset;
    let mut empty = Vec::new();
    for (image, record) in data.records().iter().enumerate() {
        let mut annotations = by_image.0[image].iter().map(|&index| &data.coco().annotations[index as usize]);
        if !record.objects.is_empty() {
            continue;
        }
        if damaged.contains(&record.image_id) || annotations.any(|annotation| !annotation.iscrowd) {
            let name = || format!("image {}, {}", record.image_id, record.file_name);
            cases.add(set, Problem::AllDropped, || (name(), vec![Spot::image(set, image)]));
        } else if by_image.0[image].is_empty() {
            empty.push(image);
        }
    }
    unlike(set, opened, Problem::EmptyImage, &empty, FEW_EMPTY * data.len() as f64, cases);
}

/// Finds images of a single colour, and images without colours where few have none.
pub(super) fn colours(set: usize, audited: &AuditSet<'_>, cases: &mut Cases) {
    let (mut grey, mut looked) = (Vec::new(), 0_usize);
    for (image, look) in audited.looks.iter().enumerate() {
        let Some(look) = look else { continue };
        looked += 1;
        if look.single {
            let record = audited.opened.dataset.record(image);
            let name = || format!("image {}, {}", record.image_id, record.file_name);
            cases.add(set, Problem::ConstantImage, || (name(), vec![Spot::image(set, image)]));
        } else if look.grey {
            grey.push(image);
        }
    }
    unlike(set, audited.opened, Problem::GreyImage, &grey, FEW_GREY * looked as f64, cases);
}

/// Adds images that differ from the others of a set, if they are at most `few`.
fn unlike(set: usize, opened: &Opened, problem: Problem, images: &[usize], few: f64, cases: &mut Cases) {
    if images.len() as f64 <= few {
        for &image in images {
            let Record { image_id, file_name, .. } = opened.dataset.record(image);
            let name = || format!("image {image_id}, {file_name}");
            cases.add(set, problem, || (name(), vec![Spot::image(set, image)]));
        }
    }
}

/// The set and the index of each image of all sets.
pub(super) fn all(sets: &[AuditSet<'_>]) -> Vec<(usize, usize)> {
    let of = |(set, audited): (usize, &AuditSet<'_>)| (0..audited.opened.dataset.len()).map(move |image| (set, image));
    sets.iter().enumerate().flat_map(of).collect()
}

/// Finds entries of one file, files of the same content, and validation images that are training images. Returns the
/// groups of equal images as indices of `all`. Where the files are not read, only entries with the same name are found.
pub(super) fn equal(
    sets: &[AuditSet<'_>],
    all: &[(usize, usize)],
    cases: &mut Cases,
) -> Result<Vec<Vec<usize>>, DataError> {
    let paths: Vec<Option<&Path>> = all.iter().map(|&(set, image)| sets[set].opened.dataset.path(image)).collect();
    if paths.iter().all(Option::is_none) {
        for (set, audited) in sets.iter().enumerate() {
            let names = audited.opened.dataset.records().iter().map(|record| Some(plain(&record.file_name)));
            for images in groups(names) {
                cases.add(set, Problem::RepeatedImage, || described(sets, set, &images));
            }
        }
        return Ok(Vec::new());
    }
    let equal = same_files(&paths)?;
    for group in &equal {
        for set in 0..sets.len() {
            let mut files: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
            for &number in group.iter().filter(|&&number| all[number].0 == set) {
                let path = paths[number].unwrap_or(Path::new(""));
                // One file may have several paths, by links.
                let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
                files.entry(file).or_default().push(all[number].1);
            }
            for images in files.values().filter(|images| images.len() > 1) {
                cases.add(set, Problem::RepeatedImage, || described(sets, set, images));
            }
            if files.len() > 1 {
                let images: BTreeSet<usize> = files.values().map(|images| images[0]).collect();
                let images: Vec<usize> = images.into_iter().collect();
                cases.add(set, Problem::CopiedImage, || described(sets, set, &images));
            }
        }
        let train = group.iter().map(|&number| all[number]).find(|(set, _)| !sets[*set].validation);
        if let Some((of, train)) = train {
            for (set, image) in group.iter().map(|&number| all[number]).filter(|(set, _)| sets[*set].validation) {
                cases.add(set, Problem::SharedImage, || {
                    let [(val, _), (other, _)] = [described(sets, set, &[image]), described(sets, of, &[train])];
                    (format!("{val}, is training {other}"), vec![Spot::image(set, image), Spot::image(of, train)])
                });
            }
        }
    }
    Ok(equal)
}

/// A file name without what does not change the file that it means.
fn plain(name: &str) -> String {
    name.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// The names of some images of a set, and their places.
pub(super) fn described(sets: &[AuditSet<'_>], set: usize, images: &[usize]) -> (String, Vec<Spot>) {
    let name = |image: &usize| {
        let Record { image_id, file_name, .. } = sets[set].opened.dataset.record(*image);
        format!("image {image_id} {file_name}")
    };
    let mut text = images.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if images.len() > NAMED {
        text += &format!(" and {} more", images.len() - NAMED);
    }
    (text, images.iter().take(NAMED).map(|&image| Spot::image(set, image)).collect())
}
