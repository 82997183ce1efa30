//! Divisions of groups and what they cost.

use std::collections::HashMap;

use foveal_coco::WholeDataset;

/// Fewest objects of a common class.
pub(super) const COMMON_OBJECTS: i64 = 100;
/// Fewest groups with objects of a common class.
pub(super) const COMMON_GROUPS: usize = 10;
/// Deviation from the share that was asked for, up to which a common class is near enough.
pub(super) const TOLERANCE: f64 = 0.02;
/// Differences of costs below this are rounding.
const ROUNDING: f64 = 1e-12;

/// Something that is counted in every group and that every part should have its share of: the objects of a class, the
/// images, or the images without objects.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// The number in the whole data set.
    pub total: i64,
    /// Number of groups that have any.
    pub groups: usize,
    /// Whether this is a class with many objects in many groups.
    pub common: bool,
    /// Whether no part should be without it.
    pub required: bool,
}

/// Groups of images that are to be divided.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The share of each part.
    pub shares: Vec<f64>,
    /// The labels: the classes in the order of the file, then the images, then the images without objects.
    pub labels: Vec<Label>,
    /// What each group has of each label, in the order of the labels. Labels that it has nothing of are left out.
    pub groups: Vec<Vec<(usize, i64)>>,
}

/// What is wrong with a division. See [`split`](super::split()) for the meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// Number of pairs of a part and a label that it should have and has not.
    pub missing: i64,
    /// Largest deviation of a common class beyond [`TOLERANCE`].
    pub excess: f64,
    /// Sum of the squared deviations.
    pub squares: f64,
}

impl Cost {
    /// Whether this cost is lower by more than rounding.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        if self.missing != other.missing {
            return self.missing < other.missing;
        }
        if (self.excess - other.excess).abs() > ROUNDING {
            return self.excess < other.excess;
        }
        self.squares < other.squares - ROUNDING
    }
}

impl Problem {
    /// The problem of dividing groups of images, given by the indices of their members.
    pub(super) fn new(dataset: &WholeDataset, members: &[Vec<usize>], shares: Vec<f64>) -> Self {
        let classes = dataset.categories.len();
        let (images, empty) = (classes, classes + 1);
        let class_of: HashMap<i64, usize> =
            dataset.categories.iter().enumerate().map(|(class, category)| (category.record.id, class)).collect();
        let mut group_of: HashMap<i64, usize> = HashMap::with_capacity(dataset.images.len());
        for (group, members) in members.iter().enumerate() {
            group_of.extend(members.iter().map(|image| (dataset.images[*image].record.id, group)));
        }
        let mut loads: Vec<HashMap<usize, i64>> = vec![HashMap::new(); members.len()];
        let mut with_objects = std::collections::HashSet::new();
        for annotation in dataset.annotations.iter().filter(|annotation| !annotation.record.iscrowd) {
            let record = &annotation.record;
            *loads[group_of[&record.image_id]].entry(class_of[&record.category_id]).or_default() += 1;
            with_objects.insert(record.image_id);
        }
        for image in &dataset.images {
            let load = &mut loads[group_of[&image.record.id]];
            *load.entry(images).or_default() += 1;
            if !with_objects.contains(&image.record.id) {
                *load.entry(empty).or_default() += 1;
            }
        }
        let groups = loads.into_iter().map(|load| {
            let mut load: Vec<(usize, i64)> = load.into_iter().collect();
            load.sort_unstable();
            load
        });
        Self::of(classes, groups.collect(), shares)
    }

    /// The problem of groups with these counts. After the classes come the images and the images without objects.
    pub(super) fn of(classes: usize, groups: Vec<Vec<(usize, i64)>>, shares: Vec<f64>) -> Self {
        let none = Label { total: 0, groups: 0, common: false, required: false };
        let mut labels = vec![none; classes + 2];
        for (label, count) in groups.iter().flatten() {
            labels[*label].total += count;
            labels[*label].groups += 1;
        }
        for (index, label) in labels.iter_mut().enumerate() {
            label.common = index < classes && label.total >= COMMON_OBJECTS && label.groups >= COMMON_GROUPS;
            label.required = index <= classes && label.groups >= shares.len();
        }
        Self { shares, labels, groups }
    }

    /// How far the share of a label that a part has is from the share of the part.
    pub(super) fn deviation(&self, part: usize, label: usize, count: i64) -> f64 {
        match self.labels[label].total {
            0 => 0.0,
            total => count as f64 / total as f64 - self.shares[part],
        }
    }

    fn excess(&self, part: usize, label: usize, count: i64) -> f64 {
        (self.deviation(part, label, count).abs() - TOLERANCE).max(0.0)
    }

    /// The cost of a division with these counts of each part and label.
    pub(super) fn cost(&self, counts: &[Vec<i64>]) -> Cost {
        let mut cost = Cost { missing: 0, excess: 0.0, squares: 0.0 };
        for (part, counts) in counts.iter().enumerate() {
            for (index, (label, count)) in self.labels.iter().zip(counts).enumerate() {
                cost.missing += i64::from(label.required && *count == 0);
                cost.squares += self.deviation(part, index, *count).powi(2);
                if label.common {
                    cost.excess = cost.excess.max(self.excess(part, index, *count));
                }
            }
        }
        cost
    }
}

/// A division of the groups of a problem.
#[derive(Clone, Debug)]
pub(super) struct Division<'a> {
    pub problem: &'a Problem,
    /// The part of each group.
    pub part: Vec<usize>,
    /// The count of each part and label.
    pub counts: Vec<Vec<i64>>,
    pub cost: Cost,
}

impl<'a> Division<'a> {
    /// The division that puts each group into the given part.
    pub(super) fn new(problem: &'a Problem, part: Vec<usize>) -> Self {
        let mut counts = vec![vec![0; problem.labels.len()]; problem.shares.len()];
        for (load, part) in problem.groups.iter().zip(&part) {
            load.iter().for_each(|(label, count)| counts[*part][*label] += count);
        }
        let cost = problem.cost(&counts);
        Self { problem, part, counts, cost }
    }

    /// Computes the cost anew, without the rounding of many small changes.
    pub(super) fn refresh(&mut self) {
        self.cost = self.problem.cost(&self.counts);
    }

    /// The cost after `transfer`, a count for each of some labels in ascending order, goes from one part to another.
    pub(super) fn cost_after(&self, transfer: &[(usize, i64)], from: usize, to: usize) -> Cost {
        let Self { problem, counts, cost, .. } = self;
        let mut after = Cost { excess: 0.0, ..*cost };
        let mut touches_largest = false;
        for (label, amount) in transfer.iter().filter(|(_, amount)| *amount != 0) {
            let about = &problem.labels[*label];
            for (part, change) in [(from, -amount), (to, *amount)] {
                let old = counts[part][*label];
                let new = old + change;
                if about.required {
                    after.missing += i64::from(new == 0) - i64::from(old == 0);
                }
                let deviation = problem.deviation(part, *label, old);
                after.squares += problem.deviation(part, *label, new).powi(2) - deviation.powi(2);
                if about.common {
                    after.excess = after.excess.max(problem.excess(part, *label, new));
                    touches_largest |= problem.excess(part, *label, old) >= cost.excess - ROUNDING;
                }
            }
        }
        if cost.excess > 0.0 {
            let others = if touches_largest { self.excess_without(transfer, from, to) } else { cost.excess };
            after.excess = after.excess.max(others);
        }
        after
    }

    /// The largest excess of the labels and parts that a transfer does not change.
    fn excess_without(&self, transfer: &[(usize, i64)], from: usize, to: usize) -> f64 {
        let mut largest: f64 = 0.0;
        for (part, counts) in self.counts.iter().enumerate() {
            for (label, count) in counts.iter().enumerate().filter(|(label, _)| self.problem.labels[*label].common) {
                let changed = (part == from || part == to)
                    && transfer.binary_search_by_key(&label, |(label, _)| *label).is_ok_and(|at| transfer[at].1 != 0);
                if !changed {
                    largest = largest.max(self.problem.excess(part, label, *count));
                }
            }
        }
        largest
    }

    /// Moves a group to another part. `cost` is the cost after it.
    pub(super) fn move_group(&mut self, group: usize, to: usize, cost: Cost) {
        let from = std::mem::replace(&mut self.part[group], to);
        for (label, count) in &self.problem.groups[group] {
            self.counts[from][*label] -= count;
            self.counts[to][*label] += count;
        }
        self.cost = cost;
    }
}
