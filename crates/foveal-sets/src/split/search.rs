//! The search for the best division.

use foveal_base::Stream;

use super::assign::deal_out;
use super::improve::{Budget, SMALL, improve};
use super::problem::{Cost, Division, Problem};

/// Key that separates the random stream of this search from those of other parts of the program.
const SPLIT: u64 = 23;
/// Number of divisions up to which all are compared.
const ALL: usize = 1 << 16;
/// Largest number of groups of which all divisions can be compared: with two parts, there are as many.
const FEW: usize = ALL.ilog2() as usize;
/// Number of first divisions of a small set.
const STARTS: u64 = 8;
/// Number of attempts in a row to leave a local optimum in vain, after which the search ends.
const ATTEMPTS: usize = 100;
/// Number of groups that the first attempt moves at most at random. Later ones move more, up to half of all.
const MOVED: usize = 3;
/// Work that the search may do, which takes some seconds.
const BUDGET: u64 = 400_000_000;

/// Returns the part of each group in the best division that is found. It is a function of the problem and the seed.
pub(super) fn search(problem: &Problem, seed: u64) -> Vec<usize> {
    let (groups, parts) = (problem.groups.len(), problem.shares.len());
    if parts < 2 {
        return vec![0; groups];
    }
    let all = if groups <= FEW { parts.checked_pow(groups as u32) } else { None };
    if all.is_some_and(|all| all <= ALL)
        && let Some(part) = best_of_all(problem, &mut Stream::new(&[seed, SPLIT]))
    {
        return part;
    }
    local(problem, seed).part
}

/// The best division that dealing out and local search find.
pub(super) fn local(problem: &Problem, seed: u64) -> Division<'_> {
    let mut budget = Budget::new(BUDGET);
    let small = problem.groups.len() <= SMALL;
    let mut best: Option<Division<'_>> = None;
    let starts = if small { STARTS } else { 1 };
    for start in 0..starts {
        let mut stream = Stream::new(&[seed, SPLIT, start]);
        let mut division = Division::new(problem, deal_out(problem, &mut stream));
        improve(&mut division, &mut stream, &mut budget);
        if best.as_ref().is_none_or(|best| division.cost.is_better_than(&best.cost)) {
            best = Some(division);
        }
    }
    let mut best = best.expect("there is at least one start");
    let mut stream = Stream::new(&[seed, SPLIT, u64::MAX]);
    let mut in_vain = 0;
    while in_vain < ATTEMPTS {
        let is_good = best.cost.missing == 0 && best.cost.excess == 0.0;
        if budget.is_spent() || best.cost.squares == 0.0 || (is_good && !small) {
            break;
        }
        let mut division = best.clone();
        let more = problem.groups.len() / 2 * in_vain / ATTEMPTS;
        kick(&mut division, MOVED + if small { more } else { 0 }, &mut stream);
        improve(&mut division, &mut stream, &mut budget);
        in_vain += 1;
        if division.cost.is_better_than(&best.cost) {
            best = division;
            in_vain = 0;
        }
    }
    best
}

/// Moves some groups, so that a local search from there can find another optimum: a group with a label to a part that
/// lacks it, or a group with the common class of the largest excess, and up to `most` random groups.
fn kick(division: &mut Division<'_>, most: usize, stream: &mut Stream) {
    let problem = division.problem;
    let parts = problem.shares.len();
    if let Some((part, label)) = worst(division, stream) {
        let has = |group: &usize| problem.groups[*group].iter().any(|(other, _)| *other == label);
        let surplus = problem.deviation(part, label, division.counts[part][label]) > 0.0;
        let groups: Vec<usize> = (0..problem.groups.len())
            .filter(|group| has(group) && (division.part[*group] == part) == surplus)
            .collect();
        if !groups.is_empty() {
            let group = groups[stream.below(groups.len())];
            let to = if surplus { (part + 1 + stream.below(parts - 1)) % parts } else { part };
            division.move_group(group, to, division.cost);
        }
    }
    for _ in 0..1 + stream.below(most) {
        let (group, to) = (stream.below(problem.groups.len()), stream.below(parts));
        division.move_group(group, to, division.cost);
    }
    division.refresh();
}

/// A random pair of a part and a label that it lacks; without such a pair, the part and the label of the largest
/// excess.
fn worst(division: &Division<'_>, stream: &mut Stream) -> Option<(usize, usize)> {
    let problem = division.problem;
    let (parts, labels) = (problem.shares.len(), problem.labels.len());
    let pairs = || (0..parts).flat_map(move |part| (0..labels).map(move |label| (part, label)));
    if division.cost.missing > 0 {
        let lacks =
            |(part, label): &(usize, usize)| problem.labels[*label].required && division.counts[*part][*label] == 0;
        let all: Vec<(usize, usize)> = pairs().filter(lacks).collect();
        return Some(all[stream.below(all.len())]);
    }
    if division.cost.excess == 0.0 {
        return None;
    }
    let size = |(part, label): &(usize, usize)| problem.deviation(*part, *label, division.counts[*part][*label]).abs();
    pairs().filter(|(_, label)| problem.labels[*label].common).max_by(|a, b| size(a).total_cmp(&size(b)))
}

/// The best of all divisions; of equal ones, a random one.
pub(super) fn best_of_all(problem: &Problem, stream: &mut Stream) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..problem.groups.len()).collect();
    stream.shuffle(&mut order);
    let mut first: Vec<usize> = (0..problem.shares.len()).collect();
    stream.shuffle(&mut first);
    let mut part = vec![0; problem.groups.len()];
    let mut counts = vec![vec![0; problem.labels.len()]; problem.shares.len()];
    let mut best: Option<(Cost, Vec<usize>)> = None;
    place(problem, &order, &first, &mut part, &mut counts, &mut best);
    best.map(|(_, part)| part)
}

/// Puts the first group of `order` into each part, and the rest into all parts after it.
fn place(
    problem: &Problem,
    order: &[usize],
    parts: &[usize],
    part: &mut [usize],
    counts: &mut [Vec<i64>],
    best: &mut Option<(Cost, Vec<usize>)>,
) {
    let Some((group, rest)) = order.split_first() else {
        let cost = problem.cost(counts);
        if best.as_ref().is_none_or(|(lowest, _)| cost.is_better_than(lowest)) {
            *best = Some((cost, part.to_vec()));
        }
        return;
    };
    for &to in parts {
        part[*group] = to;
        problem.groups[*group].iter().for_each(|(label, count)| counts[to][*label] += count);
        place(problem, rest, parts, part, counts, best);
        problem.groups[*group].iter().for_each(|(label, count)| counts[to][*label] -= count);
    }
}
