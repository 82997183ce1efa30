//! Images that are nearly equal, such as compressed, resized or brightened copies.
//!
//! Two images are similar if the Hamming distance of their hashes is at most [`DISTANCE`] and their small images agree,
//! which the hash alone does not tell where most of an image is smooth. Cropped, mirrored and turned copies are not
//! found.

use std::collections::{BTreeMap, HashSet};

use super::AuditSet;
use super::cases::{Cases, Spot};
use super::images::described;
use super::look::{Look, SIDE};
use crate::Problem;

/// Largest number of different bits of the hashes of similar images.
const DISTANCE: u32 = 6;
/// Parts of a hash by which it is found. Of two hashes with at most 7 different bits, one part of four has at most one.
const PARTS: usize = 4;
/// Bits of a part.
const PART: usize = 16;
/// Largest difference of the brightness of a cell between similar images, as a share of the range of the brightness of
/// the cells, and in levels of 0 to 255, after the difference of the means is subtracted. An object of a few percent of
/// an image that moved changes a cell by more.
const CELL_SHARE: f32 = 0.1;
const CELL: [f32; 2] = [4.0, 20.0];
/// Largest difference of the mean of a channel, in levels of 0 to 255, after that of the mean brightness is subtracted.
const COLOR: f32 = 12.0;
/// Largest difference of the mean brightness, in levels of 0 to 255.
const MEAN: f32 = 40.0;
/// Smallest range of the brightness of the cells of an image that is compared, in levels of 0 to 255. Foggy and dark
/// images all look alike.
const RANGE: u8 = 24;

/// Finds groups of similar images in each set, and validation images that are similar to a training image. `all` has
/// the set and the index of each image, and `equal` the groups of equal ones, of which only the first is compared.
pub(super) fn similar(sets: &[AuditSet<'_>], all: &[(usize, usize)], equal: &[Vec<usize>], cases: &mut Cases) {
    let copies: HashSet<usize> = equal.iter().flat_map(|group| &group[1..]).copied().collect();
    let mut index = Index::default();
    for (number, &(set, image)) in all.iter().enumerate() {
        let look = sets[set].looks.get(image).and_then(Option::as_ref);
        if let Some(look) = look.filter(|look| look.is_comparable() && !copies.contains(&number)) {
            index.add(number, look);
        }
    }
    for members in index.groups.values().filter(|members| members.len() > 1) {
        let of = |set: usize| -> Vec<usize> {
            members.iter().filter(|&&number| all[number].0 == set).map(|&number| all[number].1).collect()
        };
        for set in 0..sets.len() {
            let images = of(set);
            if images.len() > 1 {
                cases.add(set, Problem::SimilarImage, || described(sets, set, &images));
            }
        }
        let members = || members.iter().map(|&number| all[number]);
        if let Some((of, train)) = members().find(|(set, _)| !sets[*set].validation) {
            for (set, image) in members().filter(|(set, _)| sets[*set].validation) {
                cases.add(set, Problem::SharedSimilarImage, || {
                    let [(val, _), (other, _)] = [described(sets, set, &[image]), described(sets, of, &[train])];
                    (format!("{val}, and training {other}"), vec![Spot::image(set, image), Spot::image(of, train)])
                });
            }
        }
    }
}

impl Look {
    fn is_comparable(&self) -> bool {
        self.range() >= RANGE
    }

    /// The range of the brightness of the cells.
    fn range(&self) -> u8 {
        let [low, high] = [self.cells.iter().min(), self.cells.iter().max()].map(|v| v.copied().unwrap_or(0));
        high - low
    }

    fn is_similar(&self, other: &Self) -> bool {
        if (self.hash ^ other.hash).count_ones() > DISTANCE {
            return false;
        }
        let differences = || self.cells.iter().zip(&other.cells).map(|(a, b)| f32::from(*a) - f32::from(*b));
        let mean = differences().sum::<f32>() / (SIDE * SIDE) as f32;
        let cell = (CELL_SHARE * f32::from(self.range().min(other.range()))).clamp(CELL[0], CELL[1]);
        let colors = self.means.iter().zip(&other.means).all(|(a, b)| (a - b - mean).abs() <= COLOR);
        mean.abs() <= MEAN && colors && differences().all(|difference| (difference - mean).abs() <= cell)
    }
}

/// Groups of similar images. The first image of a group leads it, and later images are compared with the leaders only,
/// so that the frames of a still camera are not compared with each other. An image that is similar to several leaders
/// is in the group of the first.
#[derive(Default)]
struct Index<'a> {
    leaders: Vec<(usize, &'a Look)>,
    /// Positions in `leaders` by part of the hash and its value.
    by_part: [BTreeMap<u16, Vec<u32>>; PARTS],
    /// The images of each group, by the position of their leader.
    groups: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn add(&mut self, number: usize, look: &'a Look) {
        let leader = self.candidates(look.hash).find(|&leader| self.leaders[leader].1.is_similar(look));
        let leader = leader.unwrap_or_else(|| {
            let position = self.leaders.len();
            self.leaders.push((number, look));
            for (part, places) in self.by_part.iter_mut().enumerate() {
                places.entry(part_of(look.hash, part)).or_default().push(position as u32);
            }
            position
        });
        self.groups.entry(leader).or_default().push(number);
    }

    /// The leaders whose hashes have a part with at most one different bit, in ascending order.
    fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mut found = Vec::new();
        for (part, places) in self.by_part.iter().enumerate() {
            let value = part_of(hash, part);
            for near in std::iter::once(value).chain((0..PART).map(|bit| value ^ 1 << bit)) {
                found.extend(places.get(&near).into_iter().flatten().map(|position| *position as usize));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter()
    }
}

fn part_of(hash: u64, part: usize) -> u16 {
    (hash >> (PART * part)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use proptest::prelude::*;

    fn look(hash: u64) -> Look {
        Look { hash, cells: std::array::from_fn(|cell| cell as u8), means: [0.0; 3], single: false, grey: false }
    }

    proptest! {
        #[test]
        fn every_hash_within_the_distance_is_a_candidate(hash: u64, bits in proptest::collection::vec(0..64u32, 0..8)) {
            let known = look(hash);
            let mut index = Index::default();
            index.add(0, &known);
            let near = bits.iter().fold(hash, |hash, bit| hash ^ 1 << bit);
            prop_assert_eq!(index.candidates(near).collect::<Vec<_>>(), [0]);
            let similar = look(near).is_similar(&known);
            prop_assert_eq!(similar, (hash ^ near).count_ones() <= DISTANCE);
        }
    }

    #[test]
    fn few_hashes_are_candidates_of_another_one() {
        let mut stream = Stream::new(&[3]);
        let looks: Vec<Look> = (0..20_000).map(|_| look(stream.bits())).collect();
        let mut index = Index::default();
        looks.iter().enumerate().for_each(|(number, look)| index.add(number, look));
        let candidates: usize = looks.iter().map(|look| index.candidates(look.hash).count()).sum();
        // 4 parts of 17 values, of 65536 each, and the hash itself: 20.7 + 1 are expected.
        assert!((18..26).contains(&(candidates / looks.len())), "{candidates}");
    }

    #[test]
    fn brighter_copies_are_similar_and_other_cells_are_not() {
        let plain = look(5);
        let mut other = look(5);
        other.cells = plain.cells.map(|cell| cell.saturating_add(10).min(250));
        other.means = [8.0, 10.0, 12.0];
        assert!(plain.is_similar(&other));
        other.means = [30.0, 10.0, 0.0];
        assert!(!plain.is_similar(&other));
        other = look(5);
        other.cells[100] += 25;
        assert!(!plain.is_similar(&other));
        let flat = Look { cells: [100; SIDE * SIDE], ..look(5) };
        assert!(plain.is_comparable() && !flat.is_comparable());
    }
}
