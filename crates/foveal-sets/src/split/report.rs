//! The counts of the parts of a data set.

use std::fmt;

use foveal_coco::WholeDataset;
use serde::Serialize;

use super::SplitOptions;
use super::problem::{Division, Problem, TOLERANCE};
use crate::table::Table;

/// A part of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitPart {
    /// The name of the part.
    pub name: String,
    /// The share that was asked for.
    pub share: f64,
    /// Number of images.
    pub images: i64,
    /// Number of images without objects.
    pub empty_images: i64,
    /// Number of groups of images.
    pub groups: usize,
    /// Number of objects, without crowd regions.
    pub objects: i64,
}

/// A class in the parts of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitClass {
    /// The category id.
    pub id: i64,
    /// The name of the class.
    pub name: String,
    /// Number of objects in the whole set, without crowd regions.
    pub objects: i64,
    /// Number of groups of images with objects of the class.
    pub groups: usize,
    /// Number of objects in each part.
    pub in_parts: Vec<i64>,
    /// Share of the objects in each part; empty for a class without objects.
    pub shares: Vec<f64>,
    /// Largest difference between a share and the one that was asked for; 0 for a class without objects.
    pub deviation: f64,
    /// Whether the class has 100 objects or more in 10 groups or more, so that its shares should be within 0.02.
    pub common: bool,
}

/// The result of a division.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// The seed of all random choices.
    pub seed: u64,
    /// Number of groups of images.
    pub groups: usize,
    /// The parts in the order of the options.
    pub parts: Vec<SplitPart>,
    /// The classes in the order of the file.
    pub classes: Vec<SplitClass>,
    /// What is doubtful, one sentence each: records that were left out, images without a group, and classes that a part
    /// lacks or that deviate although they are common.
    pub warnings: Vec<String>,
}

impl SplitReport {
    pub(super) fn new(
        dataset: &WholeDataset,
        problem: &Problem,
        part_of_group: &[usize],
        options: &SplitOptions,
        mut warnings: Vec<String>,
    ) -> Self {
        let division = Division::new(problem, part_of_group.to_vec());
        let classes = dataset.categories.len();
        let part = |(index, part): (usize, &super::PartShare)| SplitPart {
            name: part.name.clone(),
            share: part.share,
            images: division.counts[index][classes],
            empty_images: division.counts[index][classes + 1],
            groups: part_of_group.iter().filter(|of_group| **of_group == index).count(),
            objects: division.counts[index][..classes].iter().sum(),
        };
        let parts: Vec<SplitPart> = options.parts.iter().enumerate().map(part).collect();
        let class = |(index, category): (usize, &foveal_coco::Whole<foveal_coco::Category>)| {
            let label = &problem.labels[index];
            let in_parts: Vec<i64> = division.counts.iter().map(|counts| counts[index]).collect();
            let share = |count: &i64| *count as f64 / label.total as f64;
            let deviations = in_parts.iter().enumerate().map(|(part, n)| problem.deviation(part, index, *n).abs());
            SplitClass {
                id: category.record.id,
                name: category.record.name.clone(),
                objects: label.total,
                groups: label.groups,
                shares: if label.total > 0 { in_parts.iter().map(share).collect() } else { Vec::new() },
                deviation: deviations.fold(0.0, f64::max),
                common: label.common,
                in_parts,
            }
        };
        let classes: Vec<SplitClass> = dataset.categories.iter().enumerate().map(class).collect();
        for class in classes.iter().filter(|class| class.objects > 0) {
            for (part, count) in parts.iter().zip(&class.in_parts) {
                if *count == 0 {
                    let groups = if class.groups == 1 { "group" } else { "groups" };
                    warnings.push(format!(
                        "the part {} has no object of the class {:?}, whose {} objects are in {} {groups} of images",
                        part.name, class.name, class.objects, class.groups
                    ));
                }
            }
            if class.common && class.deviation > TOLERANCE {
                warnings.push(format!(
                    "the shares of the class {:?} differ by up to {:.1} points from those asked for, because its groups \
                     of images are large or are tied to other classes",
                    class.name,
                    100.0 * class.deviation
                ));
            }
        }
        Self { seed: options.seed, groups: part_of_group.len(), parts, classes, warnings }
    }
}

impl fmt::Display for SplitReport {
    /// A table with two columns for each part, the number and the share in percent: of the images, the groups and the
    /// objects of each class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut headings = vec![String::new(), "all".to_owned(), "groups".to_owned()];
        for part in &self.parts {
            headings.extend([part.name.clone(), format!("{:.1} %", 100.0 * part.share)]);
        }
        let mut table = Table::new(headings);
        let mut line = |name: String, groups: String, counts: Vec<i64>| {
            let total: i64 = counts.iter().sum();
            let mut cells = vec![name, total.to_string(), groups];
            for count in counts {
                let share =
                    if total > 0 { format!("{:.1} %", 100.0 * count as f64 / total as f64) } else { "-".into() };
                cells.extend([count.to_string(), share]);
            }
            table.row(cells);
        };
        let of = |count: fn(&SplitPart) -> i64| -> Vec<i64> { self.parts.iter().map(count).collect() };
        line("images".to_owned(), self.groups.to_string(), of(|part| part.images));
        line("images without objects".to_owned(), String::new(), of(|part| part.empty_images));
        line("objects".to_owned(), String::new(), of(|part| part.objects));
        for class in &self.classes {
            line(format!("class {}", class.name), class.groups.to_string(), class.in_parts.clone());
        }
        f.write_str(&table.text())
    }
}
