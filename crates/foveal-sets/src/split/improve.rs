//! Local search: groups are moved and exchanged as long as the division becomes better.

use foveal_base::Stream;

use super::problem::{Division, Problem};

/// Number of groups up to which each is compared with every other one for an exchange.
pub(super) const SMALL: usize = 600;
/// Number of random groups that a group of a larger set is compared with for an exchange in each pass.
const PARTNERS: usize = 8;
/// Smallest share of the sum of squares by which a pass over a large set has to lower it, for another one to follow.
const WORTHWHILE: f64 = 0.01;

/// The work that a search may do, counted in labels that are looked at.
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new(labels: u64) -> Self {
        Self(labels)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    fn spend(&mut self, labels: usize) {
        self.0 = self.0.saturating_sub(labels as u64 + 1);
    }
}

/// Moves and exchanges groups until no move and no exchange that is tried makes the division better, or the budget is
/// spent. The groups are tried in a random order, and the first improvement is taken.
pub(super) fn improve(division: &mut Division<'_>, stream: &mut Stream, budget: &mut Budget) {
    let mut order: Vec<usize> = (0..division.part.len()).collect();
    stream.shuffle(&mut order);
    let small = order.len() <= SMALL;
    while !budget.is_spent() {
        let before = division.cost;
        let mut improved = move_all(division, &order, budget);
        if small {
            for (at, group) in order.iter().enumerate() {
                order[..at].iter().for_each(|other| improved |= exchange(division, *group, *other, budget));
            }
        } else {
            for group in &order {
                for _ in 0..PARTNERS {
                    let other = order[stream.below(order.len())];
                    improved |= exchange(division, *group, other, budget);
                }
            }
        }
        division.refresh();
        let after = division.cost;
        let same = after.missing == before.missing && after.excess >= before.excess;
        if !improved || (!small && same && after.squares > (1.0 - WORTHWHILE) * before.squares) {
            return;
        }
    }
}

/// Moves each group that a move makes better. Returns whether there was one.
fn move_all(division: &mut Division<'_>, order: &[usize], budget: &mut Budget) -> bool {
    let problem = division.problem;
    let mut improved = false;
    for &group in order {
        if budget.is_spent() {
            return improved;
        }
        for to in 0..problem.shares.len() {
            let from = division.part[group];
            if to == from {
                continue;
            }
            let load = &problem.groups[group];
            budget.spend(load.len());
            let cost = division.cost_after(load, from, to);
            if cost.is_better_than(&division.cost) {
                division.move_group(group, to, cost);
                improved = true;
            }
        }
    }
    improved
}

/// Exchanges two groups of different parts if that is better. Returns whether it was.
fn exchange(division: &mut Division<'_>, group: usize, other: usize, budget: &mut Budget) -> bool {
    let (from, to) = (division.part[group], division.part[other]);
    if from == to || budget.is_spent() {
        return false;
    }
    let transfer = difference(division.problem, group, other);
    budget.spend(transfer.len());
    let cost = division.cost_after(&transfer, from, to);
    if !cost.is_better_than(&division.cost) {
        return false;
    }
    division.move_group(group, to, cost);
    division.move_group(other, from, cost);
    true
}

/// What the group has more than the other one of each label that one of them has, in the order of the labels.
fn difference(problem: &Problem, group: usize, other: usize) -> Vec<(usize, i64)> {
    let (a, b) = (&problem.groups[group], &problem.groups[other]);
    let mut all = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let next = |list: &[(usize, i64)], at: usize| list.get(at).map_or(usize::MAX, |(label, _)| *label);
        let label = next(a, i).min(next(b, j));
        let mut amount = 0;
        if next(a, i) == label {
            amount += a[i].1;
            i += 1;
        }
        if next(b, j) == label {
            amount -= b[j].1;
            j += 1;
        }
        all.push((label, amount));
    }
    all
}
