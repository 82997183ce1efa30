//! The placement of large blocks in the address space.

/// Smallest size of a block that is placed here, in bytes.
pub(super) const LARGE: usize = 32 << 10;
/// Blocks begin at multiples of this size, and take multiples of it. It is the size of a page on most systems.
pub(super) const PAGE: usize = 4 << 10;
/// Largest number of blocks and regions together.
const MOST: usize = 4096;
/// Largest number of regions.
const REGIONS: usize = 256;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: usize,
    end: usize,
}

/// Extents in an array, so that the allocator needs no memory for its own lists.
struct List<const N: usize> {
    extents: [Extent; N],
    len: usize,
}

impl<const N: usize> List<N> {
    const fn new() -> Self {
        Self { extents: [Extent { start: 0, end: 0 }; N], len: 0 }
    }

    fn as_slice(&self) -> &[Extent] {
        &self.extents[..self.len]
    }

    fn insert(&mut self, at: usize, extent: Extent) {
        self.extents.copy_within(at..self.len, at + 1);
        self.extents[at] = extent;
        self.len += 1;
    }

    fn remove(&mut self, at: usize) -> Extent {
        let removed = self.extents[at];
        self.extents.copy_within(at + 1..self.len, at);
        self.len -= 1;
        removed
    }
}

/// The regions of the address space in which large blocks lie, and their free extents.
///
/// A block is placed at the lowest address where it fits, and adjoining free extents are joined.
pub(super) struct Extents {
    /// The free extents by address. No two of them adjoin. Each ends at a block or at the end of a region, so that
    /// there are at most as many as blocks and regions together.
    free: List<MOST>,
    regions: List<REGIONS>,
    /// Number of blocks in use.
    blocks: usize,
}

impl Extents {
    /// No regions.
    pub(super) const fn new() -> Self {
        Self { free: List::new(), regions: List::new(), blocks: 0 }
    }

    /// Whether the lists have room for one more region and one more block.
    pub(super) fn has_room(&self) -> bool {
        self.blocks + self.regions.len + 1 < MOST && self.regions.len < REGIONS
    }

    /// Adds a region, which is free. [`has_room`](Self::has_room) must be true.
    pub(super) fn add_region(&mut self, start: usize, size: usize) {
        let region = Extent { start, end: start + size };
        self.regions.insert(self.regions.len, region);
        self.add_free(region);
    }

    /// Takes `size` bytes for a block and returns their address; `None` if no free extent is as large.
    /// [`has_room`](Self::has_room) must be true.
    pub(super) fn take(&mut self, size: usize) -> Option<usize> {
        let at = self.free.as_slice().iter().position(|free| free.end - free.start >= size)?;
        let free = &mut self.free.extents[at];
        let start = free.start;
        free.start += size;
        if free.start == free.end {
            self.free.remove(at);
        }
        self.blocks += 1;
        Some(start)
    }

    /// Whether the address lies in a region.
    pub(super) fn has(&self, address: usize) -> bool {
        self.regions.as_slice().iter().any(|region| (region.start..region.end).contains(&address))
    }

    /// Frees a block of `size` bytes.
    pub(super) fn put_back(&mut self, start: usize, size: usize) {
        self.blocks -= 1;
        self.add_free(Extent { start, end: start + size });
    }

    /// Adds a free extent and joins it with its neighbours in the same region.
    fn add_free(&mut self, extent: Extent) {
        let free = self.free.as_slice();
        let at = free.partition_point(|free| free.start < extent.start);
        let in_one = |start: usize| self.regions.as_slice().iter().all(|region| region.start != start);
        let joins_next = free.get(at).is_some_and(|next| next.start == extent.end && in_one(next.start));
        let joins_last = at > 0 && free[at - 1].end == extent.start && in_one(extent.start);
        match (joins_last, joins_next) {
            (true, true) => self.free.extents[at - 1].end = self.free.remove(at).end,
            (true, false) => self.free.extents[at - 1].end = extent.end,
            (false, true) => self.free.extents[at].start = extent.start,
            (false, false) => self.free.insert(at, extent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_the_lowest_place_and_free_neighbours_are_joined() {
        let mut extents = Extents::new();
        assert_eq!(extents.take(PAGE), None);
        extents.add_region(100 * PAGE, 10 * PAGE);
        let blocks = [3, 2, 4].map(|pages| extents.take(pages * PAGE).unwrap() / PAGE);
        assert_eq!(blocks, [100, 103, 105]);
        assert_eq!(extents.take(2 * PAGE), None);
        extents.put_back(103 * PAGE, 2 * PAGE);
        extents.put_back(100 * PAGE, 3 * PAGE);
        assert_eq!(extents.take(5 * PAGE), Some(100 * PAGE));
        assert_eq!(extents.take(PAGE), Some(109 * PAGE));
        assert_eq!(extents.free.len, 0);
        // The last to come back joins the extents on both sides.
        for (start, pages) in [(100, 5), (109, 1), (105, 4)] {
            extents.put_back(start * PAGE, pages * PAGE);
        }
        assert_eq!(extents.free.as_slice(), [Extent { start: 100 * PAGE, end: 110 * PAGE }]);
        assert!(extents.has(109 * PAGE) && !extents.has(110 * PAGE) && !extents.has(99 * PAGE));
    }

    /// Blocks of changing sizes in two regions that adjoin nothing: none overlaps another, and everything is free again
    /// in the end.
    #[test]
    fn blocks_never_overlap() {
        let mut extents = Extents::new();
        for start in [1000, 3000] {
            extents.add_region(start * PAGE, 1000 * PAGE);
        }
        let (mut state, mut blocks) = (1u64, Vec::<Extent>::new());
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            if random(2) == 0 && !blocks.is_empty() {
                let block = blocks.swap_remove(random(blocks.len()));
                extents.put_back(block.start, block.end - block.start);
            } else {
                let size = (1 + random(60)) * PAGE;
                let Some(start) = extents.take(size) else { continue };
                let block = Extent { start, end: start + size };
                assert!(blocks.iter().all(|other| block.end <= other.start || other.end <= block.start));
                assert!(extents.has(start) && extents.has(block.end - 1));
                blocks.push(block);
            }
            assert!(extents.free.len <= blocks.len() + extents.regions.len);
            let held: usize =
                blocks.iter().chain(extents.free.as_slice()).map(|extent| extent.end - extent.start).sum();
            assert_eq!(held, 2000 * PAGE);
        }
        for block in blocks {
            extents.put_back(block.start, block.end - block.start);
        }
        assert_eq!(extents.free.as_slice(), extents.regions.as_slice());
    }

    #[test]
    fn the_list_of_free_extents_is_long_enough_for_all_blocks() {
        let mut extents = Extents::new();
        extents.add_region(PAGE, MOST * 2 * PAGE);
        let mut starts = Vec::new();
        while extents.has_room() {
            starts.push(extents.take(PAGE).unwrap());
        }
        for start in starts.iter().step_by(2).chain(starts.iter().skip(1).step_by(2)) {
            extents.put_back(*start, PAGE);
        }
        assert!(starts.len() > MOST / 2 && extents.has_room());
        assert_eq!(extents.free.as_slice(), extents.regions.as_slice());
    }
}
