//! The first division: groups are dealt out rarest label first.

use foveal_base::Stream;

use super::problem::Problem;

/// Deals out the groups as in Sechidis et al., "On the stratification of multi-label data" (ECML 2011), algorithm 1:
/// the label with the fewest groups left comes first, and each of its groups goes to the part that lacks most of the
/// label, then most images. The groups of a label come in the order of their counts, largest first, and in a random
/// order where these are equal. As soon as a label has no more groups left than there are parts without it, these parts
/// get them.
///
/// Returns the part of each group.
pub(super) fn deal_out(problem: &Problem, stream: &mut Stream) -> Vec<usize> {
    let parts = problem.shares.len();
    // The images come last but one, and the images without objects last.
    let images = problem.labels.len() - 2;
    let mut order: Vec<usize> = (0..problem.groups.len()).collect();
    stream.shuffle(&mut order);
    let mut of_label: Vec<Vec<(usize, i64)>> = vec![Vec::new(); problem.labels.len()];
    for group in order {
        problem.groups[group].iter().for_each(|(label, count)| of_label[*label].push((group, *count)));
    }
    // The sort is stable, so that equal counts stay in the random order.
    of_label.iter_mut().for_each(|groups| groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count)));
    let mut left: Vec<usize> = problem.labels.iter().map(|label| label.groups).collect();
    let lack = |share: &f64| problem.labels.iter().map(|label| share * label.total as f64).collect();
    let mut lacks: Vec<Vec<f64>> = problem.shares.iter().map(lack).collect();
    let mut has = vec![vec![false; problem.labels.len()]; parts];
    let mut part_of = vec![usize::MAX; problem.groups.len()];
    let rarest = |left: &[usize]| {
        let waiting = (0..left.len()).filter(|label| *label != images && left[*label] > 0);
        waiting.min_by_key(|label| left[*label])
    };
    while let Some(label) = rarest(&left) {
        for (group, _) in &of_label[label] {
            if part_of[*group] != usize::MAX {
                continue;
            }
            let without = (0..parts).filter(|part| !has[*part][label]).count();
            let only_without = problem.labels[label].required && left[label] <= without;
            let candidates = (0..parts).filter(|part| !only_without || !has[*part][label]);
            let part = neediest(candidates, &lacks, label, images, stream);
            part_of[*group] = part;
            for (label, count) in &problem.groups[*group] {
                left[*label] -= 1;
                lacks[part][*label] -= *count as f64;
                has[part][*label] = true;
            }
        }
    }
    part_of
}

/// The part that lacks most of a label, then most images, then a random one.
fn neediest(
    candidates: impl Iterator<Item = usize>,
    lacks: &[Vec<f64>],
    label: usize,
    images: usize,
    stream: &mut Stream,
) -> usize {
    let mut best: Vec<usize> = Vec::new();
    for part in candidates {
        let order = best.first().map_or(std::cmp::Ordering::Greater, |first| {
            let need = |part: usize, label: usize| lacks[part][label];
            need(part, label).total_cmp(&need(*first, label)).then(need(part, images).total_cmp(&need(*first, images)))
        });
        match order {
            std::cmp::Ordering::Greater => best = vec![part],
            std::cmp::Ordering::Equal => best.push(part),
            std::cmp::Ordering::Less => {}
        }
    }
    best[stream.below(best.len())]
}
