//! The breakdown of a block of rows, accumulated during the pass over the logits.
use super::breakdown::{BREAKDOWN_BINS, BreakdownSums, LossBin, PairSums, bin};

/// Number of parallel histograms, so that consecutive losses in the same bin do not wait for each other's sums.
const WAYS: usize = 4;

/// Sums of a breakdown, accumulated piece by piece.
pub(super) struct Tally {
    /// All sums except the negatives' losses by class and by bin.
    sums: BreakdownSums,
    /// The negatives' losses at each position of a piece, which consists of whole rows.
    columns: Vec<f64>,
    /// Loss and count of each bin, in [`WAYS`] histograms.
    slots: Vec<[f64; 2]>,
}

impl Tally {
    /// An empty tally for pieces of `piece` pairs, which are whole rows.
    pub(super) fn new(classes: usize, piece: usize) -> Self {
        Self {
            sums: BreakdownSums::zero(classes),
            columns: vec![0.0; piece],
            slots: vec![[0.0; 2]; WAYS * BREAKDOWN_BINS],
        }
    }

    /// Adds consecutive pairs that are all positives or all negatives; the class of the first is `column`.
    pub(super) fn part(&mut self, level: usize, column: usize, positive: bool, found: PairSums, losses: &[f32]) {
        let level = if positive { &mut self.sums.positive[level] } else { &mut self.sums.negative[level] };
        level.add(&found);
        if positive {
            self.sums.positive_by_class[column] += found.loss;
            return;
        }
        for (sum, loss) in self.columns[column..].iter_mut().zip(losses) {
            *sum += f64::from(*loss);
        }
        let (ways, rest) = losses.as_chunks::<WAYS>();
        for losses in ways {
            for (way, loss) in losses.iter().enumerate() {
                self.count(way, *loss);
            }
        }
        rest.iter().for_each(|loss| self.count(0, *loss));
    }

    #[inline(always)]
    fn count(&mut self, way: usize, loss: f32) {
        let slot = &mut self.slots[way * BREAKDOWN_BINS + bin(loss)];
        *slot = [slot[0] + f64::from(loss), slot[1] + 1.0];
    }

    /// Adds the sums of a later block of rows.
    pub(super) fn add(&mut self, later: &Self) {
        let sums = &mut self.sums;
        for (own, other) in sums.positive.iter_mut().zip(&later.sums.positive) {
            own.add(other);
        }
        for (own, other) in sums.negative.iter_mut().zip(&later.sums.negative) {
            own.add(other);
        }
        let add = |own: &mut [f64], other: &[f64]| own.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        add(&mut sums.positive_by_class, &later.sums.positive_by_class);
        add(&mut self.columns, &later.columns);
        add(self.slots.as_flattened_mut(), later.slots.as_flattened());
    }

    /// Returns the breakdown of all rows that were added.
    pub(super) fn sums(mut self) -> BreakdownSums {
        let classes = self.sums.negative_by_class.len();
        for (place, loss) in self.columns.iter().enumerate() {
            self.sums.negative_by_class[place % classes] += loss;
        }
        for (place, [loss, count]) in self.slots.iter().enumerate() {
            let LossBin { count: all, loss: sum } = &mut self.sums.bins[place % BREAKDOWN_BINS];
            *all += count;
            *sum += loss;
        }
        self.sums
    }
}

impl PairSums {
    fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.gradient += other.gradient;
        self.score += other.score;
    }
}
