//! A part of a data set: selected images, and selected objects of them.

use std::collections::{HashMap, HashSet};

use foveal_base::Stream;
use foveal_coco::{Annotation, Whole, WholeDataset};
use glob::{MatchOptions, Pattern};

use crate::{ChangeReport, InputCounts, SetCounts, SetFile, SetsError, names};

/// Key that separates the random stream of this selection from those of other parts of the program.
const SUBSET: u64 = 29;

/// What becomes of objects that are smaller or larger than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherSizes {
    /// They are left out, so that they are background.
    #[default]
    Drop,
    /// They become crowd regions, which training and evaluation ignore.
    Crowd,
}

/// Which images and objects are selected. What is left at its default selects everything.
#[derive(Clone, Debug, Default)]
pub struct SubsetOptions {
    /// Ids of images; empty for all.
    pub ids: Vec<i64>,
    /// Glob patterns of file names, of which an image must match at least one; empty for all. `*` also matches `/`.
    pub files: Vec<Pattern>,
    /// Names of classes; empty for all. Objects and crowd regions of other classes are left out, and so are these
    /// classes.
    pub classes: Vec<String>,
    /// Smallest size of an object: the square root of the area of its box, in pixels.
    pub min_size: Option<f64>,
    /// Size in pixels that an object must be below.
    pub max_size: Option<f64>,
    /// What becomes of objects of other sizes.
    pub other_sizes: OtherSizes,
    /// Whether images without an object of the selection are left out.
    pub with_objects: bool,
    /// Number of images, chosen at random among those that are left.
    pub count: Option<usize>,
    /// Seed of the choice.
    pub seed: u64,
}

/// A part of a data set.
#[derive(Clone, Debug)]
pub struct Subset {
    /// The selected records, in the order of the file, with all members.
    pub dataset: WholeDataset,
    /// The counts and what was left out.
    pub report: ChangeReport,
}

/// Selects images by ids and file names, then objects by class and size, then images with objects, then a number of
/// images at random. Only images that pass all of these are in the result.
///
/// # Errors
/// [`SetsError::UnknownClass`] for a class that the data set does not have; [`SetsError::Option`] for an id or pattern
/// that no image has, and if fewer images are left than [`SubsetOptions::count`]; [`SetsError::Nothing`] if no image is
/// left.
pub fn subset(set: SetFile, options: &SubsetOptions) -> Result<Subset, SetsError> {
    let before = InputCounts::of(&set);
    let SetFile { path, mut dataset, warnings } = set;
    let mut notes = Vec::new();
    for name in &options.classes {
        if !dataset.categories.iter().any(|category| category.record.name == *name) {
            return Err(names::unknown(&path, name, &dataset.categories));
        }
    }
    select_images(&mut dataset, options)?;
    let images: HashSet<i64> = dataset.images.iter().map(|image| image.record.id).collect();
    dataset.annotations.retain(|annotation| images.contains(&annotation.record.image_id));

    if !options.classes.is_empty() {
        let wanted: HashSet<&str> = options.classes.iter().map(String::as_str).collect();
        dataset.categories.retain(|category| wanted.contains(category.record.name.as_str()));
        let ids: HashSet<i64> = dataset.categories.iter().map(|category| category.record.id).collect();
        let all = dataset.annotations.len();
        dataset.annotations.retain(|annotation| ids.contains(&annotation.record.category_id));
        let left_out = all - dataset.annotations.len();
        if left_out > 0 {
            notes.push(format!("objects of other classes, left out, so that they are background: {left_out}"));
        }
    }
    select_sizes(&mut dataset, options, &mut notes);

    if options.with_objects {
        let objects = dataset.annotations.iter().filter(|annotation| !annotation.record.iscrowd);
        let with_objects: HashSet<i64> = objects.map(|annotation| annotation.record.image_id).collect();
        dataset.images.retain(|image| with_objects.contains(&image.record.id));
    }
    if let Some(count) = options.count {
        choose(&mut dataset, count, options.seed)?;
    }
    let images: HashSet<i64> = dataset.images.iter().map(|image| image.record.id).collect();
    dataset.annotations.retain(|annotation| images.contains(&annotation.record.image_id));
    if dataset.images.is_empty() {
        let message =
            format!("expected at least one of {} images to pass the selection, found none", before.counts.images);
        return Err(SetsError::Nothing { path, message });
    }
    let report = ChangeReport { inputs: vec![before], output: SetCounts::of(&dataset), notes, warnings };
    Ok(Subset { dataset, report })
}

/// Keeps the images with the ids and the names that were asked for.
fn select_images(dataset: &mut WholeDataset, options: &SubsetOptions) -> Result<(), SetsError> {
    if !options.ids.is_empty() {
        let known: HashSet<i64> = dataset.images.iter().map(|image| image.record.id).collect();
        if let Some(id) = options.ids.iter().find(|id| !known.contains(id)) {
            let (least, most) = (known.iter().min(), known.iter().max());
            let range = least.zip(most).map_or("no image".to_owned(), |(least, most)| format!("ids {least} to {most}"));
            let expected = format!("ids of images; the file has {range}");
            return Err(SetsError::Option { option: "--ids", expected, found: id.to_string() });
        }
        let wanted: HashSet<i64> = options.ids.iter().copied().collect();
        dataset.images.retain(|image| wanted.contains(&image.record.id));
    }
    if !options.files.is_empty() {
        let rule = MatchOptions { require_literal_separator: false, ..MatchOptions::default() };
        let mut matched = vec![0; options.files.len()];
        let first = dataset.images.first().map(|image| image.record.file_name.clone()).unwrap_or_default();
        dataset.images.retain(|image| {
            let matches = |pattern: &Pattern| pattern.matches_with(&image.record.file_name, rule);
            let hits: Vec<bool> = options.files.iter().map(matches).collect();
            hits.iter().zip(&mut matched).for_each(|(hit, count)| *count += usize::from(*hit));
            hits.contains(&true)
        });
        if let Some(at) = matched.iter().position(|count| *count == 0) {
            let expected = format!("a pattern of file names such as {first:?}");
            let found = format!("{:?}, which matches none", options.files[at].as_str());
            return Err(SetsError::Option { option: "--files", expected, found });
        }
    }
    Ok(())
}

/// Leaves out objects of other sizes, or makes crowd regions of them. Objects without a box have no size and are other
/// ones. Crowd regions stay.
fn select_sizes(dataset: &mut WholeDataset, options: &SubsetOptions, notes: &mut Vec<String>) {
    if options.min_size.is_none() && options.max_size.is_none() {
        return;
    }
    let fits = |record: &Annotation| {
        let size = (record.bbox[2].max(0.0) * record.bbox[3].max(0.0)).sqrt();
        size.is_finite()
            && options.min_size.is_none_or(|least| size >= least)
            && options.max_size.is_none_or(|limit| size < limit)
    };
    let mut other = 0;
    let mut keep = |annotation: &mut Whole<Annotation>| {
        if annotation.record.iscrowd || fits(&annotation.record) {
            return true;
        }
        other += 1;
        annotation.record.iscrowd = true;
        options.other_sizes == OtherSizes::Crowd
    };
    dataset.annotations.retain_mut(&mut keep);
    if other > 0 {
        notes.push(match options.other_sizes {
            OtherSizes::Drop => format!("objects of other sizes, left out, so that they are background: {other}"),
            OtherSizes::Crowd => format!("objects of other sizes, now crowd regions, which are ignored: {other}"),
        });
    }
}

/// Keeps a number of images, chosen at random.
fn choose(dataset: &mut WholeDataset, count: usize, seed: u64) -> Result<(), SetsError> {
    if count > dataset.images.len() {
        return Err(SetsError::Option {
            option: "--count",
            expected: format!("at most {} images, which the selection has", dataset.images.len()),
            found: count.to_string(),
        });
    }
    let mut order: Vec<usize> = (0..dataset.images.len()).collect();
    Stream::new(&[seed, SUBSET]).shuffle(&mut order);
    let place: HashMap<usize, usize> = order.into_iter().enumerate().map(|(rank, index)| (index, rank)).collect();
    let mut index = 0;
    dataset.images.retain(|_| {
        index += 1;
        place[&(index - 1)] < count
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use foveal_coco::{Category, Image, Members};
    use serde_json::json;

    use super::*;

    /// Ten images `cam<0|1>/<n>.jpg`; image n has a cat of n pixels, and a dog of 50 pixels if n is even.
    fn set() -> SetFile {
        let mut dataset = WholeDataset::default();
        for (id, name) in [(5, "cat"), (8, "dog")] {
            let record = Category { id, name: name.to_owned(), supercategory: None };
            dataset.categories.push(Whole { record, ..Whole::default() });
        }
        for n in 1..=10i64 {
            let file_name = format!("cam{}/{n}.jpg", n % 2);
            let others = Members::new(json!({"n": n}).as_object().unwrap());
            dataset.images.push(Whole { record: Image { id: n, file_name, width: 100, height: 100 }, others });
            let mut add = |id, category_id, side: f64| {
                let bbox = [1.0, 1.0, side, side];
                let record = Annotation { id, image_id: n, category_id, bbox, area: side * side, iscrowd: false };
                let others = Members::new(json!({"segmentation": [[n]]}).as_object().unwrap());
                dataset.annotations.push(Whole { record, others });
            };
            add(n, 5, n as f64);
            if n % 2 == 0 {
                add(n + 100, 8, 50.0);
            }
        }
        SetFile { path: "a.json".into(), dataset, warnings: Vec::new() }
    }

    fn ids(subset: &Subset) -> Vec<i64> {
        subset.dataset.images.iter().map(|image| image.record.id).collect()
    }

    #[test]
    fn images_are_selected_by_id_name_and_count() {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let by = |options: SubsetOptions| subset(set(), &options).unwrap();
        assert_eq!(ids(&by(SubsetOptions { ids: vec![7, 2], ..Default::default() })), [2, 7]);
        let odd = by(SubsetOptions { files: vec![pattern("cam1/*"), pattern("*2.jpg")], ..Default::default() });
        assert_eq!(ids(&odd), [1, 2, 3, 5, 7, 9]);
        assert_eq!(odd.dataset.annotations.len(), 7);
        assert_eq!(odd.dataset.images[1], set().dataset.images[1]);
        assert_eq!(odd.dataset.annotations[0], set().dataset.annotations[0]);
        let some = |seed| ids(&by(SubsetOptions { count: Some(4), seed, ..Default::default() }));
        assert_eq!((some(1).len(), some(1)), (4, some(1)));
        assert!((2..9).any(|seed| some(seed) != some(1)));
    }

    #[test]
    fn objects_are_selected_by_class_and_size() {
        let by = |options: SubsetOptions| subset(set(), &options).unwrap();
        let dogs = by(SubsetOptions { classes: vec!["dog".to_owned()], ..Default::default() });
        assert_eq!((dogs.dataset.images.len(), dogs.dataset.annotations.len()), (10, 5));
        assert_eq!(dogs.dataset.categories.len(), 1);
        assert!(dogs.report.notes[0].ends_with("are background: 10"), "{:?}", dogs.report.notes);
        let with = by(SubsetOptions { classes: vec!["dog".to_owned()], with_objects: true, ..Default::default() });
        assert_eq!(ids(&with), [2, 4, 6, 8, 10]);
        let sizes = SubsetOptions { min_size: Some(4.0), max_size: Some(8.0), ..Default::default() };
        let dropped = by(sizes.clone());
        assert_eq!((dropped.dataset.annotations.len(), dropped.report.output.crowds), (4, 0));
        let ignored = by(SubsetOptions { other_sizes: OtherSizes::Crowd, ..sizes.clone() });
        assert_eq!((ignored.report.output.objects, ignored.report.output.crowds), (4, 11));
        let small = by(SubsetOptions { with_objects: true, count: Some(4), ..sizes });
        assert_eq!(ids(&small), [4, 5, 6, 7]);
    }

    #[test]
    fn what_selects_nothing_is_named() {
        let text = |options: SubsetOptions| subset(set(), &options).unwrap_err().to_string();
        let class = text(SubsetOptions { classes: vec!["Dog s".to_owned()], ..Default::default() });
        assert!(
            class.contains("a.json") && class.contains("did you mean \"dog\"") && class.contains("cat, dog"),
            "{class}"
        );
        assert!(text(SubsetOptions { ids: vec![1, 99], ..Default::default() }).contains("99"));
        let files = text(SubsetOptions { files: vec![Pattern::new("x*").unwrap()], ..Default::default() });
        assert!(files.contains("x*") && files.contains("cam1/1.jpg"), "{files}");
        let count = text(SubsetOptions { count: Some(11), ..Default::default() });
        assert!(count.contains("at most 10") && count.contains("11"), "{count}");
        let none = text(SubsetOptions { min_size: Some(1e4), with_objects: true, ..Default::default() });
        assert!(none.contains("10 images"), "{none}");
    }
}
