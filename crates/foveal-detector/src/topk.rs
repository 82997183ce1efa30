//! Selection of the k highest scores.

/// A score and its index in the list of all scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    /// The score, from 0 to 1.
    pub score: f32,
    /// Index of the score in the list of all scores.
    pub index: u32,
}

/// The `k` highest scores in descending order; equal scores are in the order of their indices.
pub(crate) fn best(mut all: Vec<Scored>, k: usize) -> Vec<Scored> {
    let order = |a: &Scored, b: &Scored| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index));
    if all.len() > k && k > 0 {
        all.select_nth_unstable_by(k - 1, order);
    }
    all.truncate(k);
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_at_the_cut_go_to_the_lower_index() {
        let all: Vec<Scored> =
            [0.5, 0.9, 0.5, 0.5, 0.1].iter().enumerate().map(|(i, s)| Scored { score: *s, index: i as u32 }).collect();
        let kept: Vec<u32> = best(all.clone(), 3).iter().map(|s| s.index).collect();
        assert_eq!(kept, [1, 0, 2]);
        assert_eq!(best(all.clone(), 0), []);
        assert_eq!(best(all, 9).len(), 5);
    }
}
