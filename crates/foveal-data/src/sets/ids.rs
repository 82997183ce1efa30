//! Ids that are unique over several sets.

use std::collections::HashSet;

/// Gives the records of several sets ids that no two of them share: the first record with an id keeps it, and a later
/// one gets the next integer above the largest id of all sets.
pub(crate) struct UniqueIds {
    /// The ids of all records, and those that were given instead.
    known: HashSet<i64>,
    /// The ids of the records so far.
    taken: HashSet<i64>,
    next: i64,
}

impl UniqueIds {
    /// Ids of records that have these ids in their files.
    pub(crate) fn new(all: impl Iterator<Item = i64>) -> Self {
        let known: HashSet<i64> = all.collect();
        let largest = known.iter().max().copied().unwrap_or(0);
        Self { known, taken: HashSet::new(), next: largest.checked_add(1).unwrap_or(1) }
    }

    /// The id of the next record, which has `id` in its file.
    pub(crate) fn unique(&mut self, id: i64) -> i64 {
        if self.taken.insert(id) {
            return id;
        }
        let free = self.free();
        self.taken.insert(free);
        free
    }

    /// An id that no record has.
    pub(crate) fn free(&mut self) -> i64 {
        while !self.known.insert(self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::UniqueIds;

    #[test]
    fn the_first_record_keeps_its_id() {
        let ids = [5, -2, 5, 9, 5, -2];
        let mut unique = UniqueIds::new(ids.into_iter());
        assert_eq!(ids.map(|id| unique.unique(id)), [5, -2, 10, 9, 11, 12]);
        let ids = [i64::MAX, i64::MAX, 1, 1];
        let mut unique = UniqueIds::new(ids.into_iter());
        assert_eq!(ids.map(|id| unique.unique(id)), [i64::MAX, 2, 1, 3]);
    }
}
