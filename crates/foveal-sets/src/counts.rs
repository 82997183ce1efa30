//! Counts of data sets before and after a change.

use std::collections::HashMap;
use std::fmt;

use foveal_coco::WholeDataset;
use serde::Serialize;

use crate::SetFile;
use crate::table::Table;

/// The number of objects of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The category id.
    pub id: i64,
    /// The name of the class.
    pub name: String,
    /// Number of objects, without crowd regions.
    pub objects: usize,
}

/// The counts of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetCounts {
    /// Number of images.
    pub images: usize,
    /// Number of images without objects.
    pub empty_images: usize,
    /// Number of objects, without crowd regions.
    pub objects: usize,
    /// Number of crowd regions.
    pub crowds: usize,
    /// The classes in the order of the file.
    pub classes: Vec<Counted>,
}

impl SetCounts {
    /// Counts a data set.
    pub fn of(dataset: &WholeDataset) -> Self {
        let counted = |c: &foveal_coco::Category| Counted { id: c.id, name: c.name.clone(), objects: 0 };
        let mut counts = Self {
            images: dataset.images.len(),
            classes: dataset.categories.iter().map(|category| counted(&category.record)).collect(),
            ..Self::default()
        };
        let place: HashMap<i64, usize> = counts.classes.iter().enumerate().map(|(at, class)| (class.id, at)).collect();
        let mut with_objects = std::collections::HashSet::new();
        for annotation in &dataset.annotations {
            let record = &annotation.record;
            if record.iscrowd {
                counts.crowds += 1;
                continue;
            }
            counts.objects += 1;
            with_objects.insert(record.image_id);
            if let Some(at) = place.get(&record.category_id) {
                counts.classes[*at].objects += 1;
            }
        }
        counts.empty_images = counts.images - with_objects.len().min(counts.images);
        counts
    }
}

/// The counts of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputCounts {
    /// The path of the file.
    pub file: String,
    /// The counts of its content.
    #[serde(flatten)]
    pub counts: SetCounts,
}

impl InputCounts {
    /// Counts a data set.
    pub fn of(set: &SetFile) -> Self {
        Self { file: set.path.display().to_string(), counts: SetCounts::of(&set.dataset) }
    }
}

/// What a change of data sets did: counts before and after it, and what it left out or decided.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeReport {
    /// The counts of the inputs.
    pub inputs: Vec<InputCounts>,
    /// The counts of the output.
    pub output: SetCounts,
    /// What was decided, one sentence each.
    pub notes: Vec<String>,
    /// What was lost or is doubtful, one sentence each.
    pub warnings: Vec<String>,
}

impl fmt::Display for ChangeReport {
    /// A table with a column for each input and one for the output: the images, the crowd regions, and the objects of
    /// each class. A class that a file does not have has `-` in its column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inputs.iter().map(|input| input.file.clone());
        let headings: Vec<String> = std::iter::once(String::new()).chain(names).chain(["output".to_owned()]).collect();
        let all: Vec<&SetCounts> = self.inputs.iter().map(|input| &input.counts).chain([&self.output]).collect();
        let mut table = Table::new(headings);
        let mut line = |name: &str, of: fn(&SetCounts) -> usize| {
            table.row(std::iter::once(name.to_owned()).chain(all.iter().map(|counts| of(counts).to_string())));
        };
        line("images", |counts| counts.images);
        line("images without objects", |counts| counts.empty_images);
        line("objects", |counts| counts.objects);
        line("crowd regions", |counts| counts.crowds);
        let mut seen = std::collections::HashSet::new();
        // The classes of the output come first.
        for class in self.output.classes.iter().chain(all.iter().flat_map(|counts| &counts.classes)) {
            if !seen.insert(&class.name) {
                continue;
            }
            let cells = all.iter().map(|counts| {
                let same: Vec<usize> =
                    counts.classes.iter().filter(|other| other.name == class.name).map(|other| other.objects).collect();
                if same.is_empty() { "-".to_owned() } else { same.iter().sum::<usize>().to_string() }
            });
            table.row(std::iter::once(format!("class {}", class.name)).chain(cells));
        }
        f.write_str(&table.text())
    }
}

#[cfg(test)]
mod tests {
    use foveal_coco::{Annotation, Category, Image, Whole};

    use super::*;

    #[test]
    fn crowd_regions_are_no_objects() {
        let category = |id: i64, name: &str| Whole {
            record: Category { id, name: name.to_owned(), supercategory: None },
            ..Whole::default()
        };
        let annotation = |image_id, category_id, iscrowd| Whole {
            record: Annotation { image_id, category_id, iscrowd, ..Annotation::default() },
            ..Whole::default()
        };
        let image = |id| Whole { record: Image { id, ..Image::default() }, ..Whole::default() };
        let dataset = WholeDataset {
            images: [1, 2, 3].map(image).to_vec(),
            annotations: vec![annotation(1, 7, false), annotation(1, 7, false), annotation(2, 8, true)],
            categories: vec![category(7, "a"), category(8, "b")],
            ..WholeDataset::default()
        };
        let counts = SetCounts::of(&dataset);
        assert_eq!((counts.images, counts.empty_images, counts.objects, counts.crowds), (3, 2, 2, 1));
        assert_eq!(counts.classes.iter().map(|class| class.objects).collect::<Vec<_>>(), [2, 0]);
        let report = ChangeReport {
            inputs: vec![InputCounts { file: "x.json".to_owned(), counts }],
            output: SetCounts::default(),
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        let text = report.to_string();
        assert!(
            text.contains("x.json") && text.lines().any(|line| line.split_whitespace().eq(["class", "a", "2", "-"]))
        );
    }
}
