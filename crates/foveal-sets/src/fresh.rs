//! Ids that no record has yet.

use std::collections::HashSet;

/// The ids of a kind of records, which are unique.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    used: HashSet<i64>,
    /// The next id that is tried for a record whose own id is taken.
    next: i64,
}

impl Ids {
    /// No ids. New ones are larger than all ids in `known`, so that a record with one of these can still keep its own.
    pub(crate) fn above(known: impl Iterator<Item = i64>) -> Self {
        // After the largest number, the search goes on from 1.
        let next = known.max().map_or(1, |largest| largest.checked_add(1).unwrap_or(1).max(1));
        Self { used: HashSet::new(), next }
    }

    /// Takes an id for a record that has `wanted` so far: `wanted` itself if it is free, or else a new one.
    pub(crate) fn take(&mut self, wanted: i64) -> i64 {
        if self.used.insert(wanted) {
            return wanted;
        }
        while !self.used.insert(self.next) {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_where_they_are_free() {
        let mut ids = Ids::above([3, 7].into_iter());
        assert_eq!([3, 3, 7, 3, -1].map(|id| ids.take(id)), [3, 8, 7, 9, -1]);
        let mut ids = Ids::above([i64::MAX, 1].into_iter());
        assert_eq!([i64::MAX, i64::MAX, i64::MAX].map(|id| ids.take(id)), [i64::MAX, 1, 2]);
        assert_eq!(Ids::above(std::iter::empty()).take(5), 5);
    }
}
