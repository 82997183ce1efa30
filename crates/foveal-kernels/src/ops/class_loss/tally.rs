//! The breakdown of some rows, while they are gone through.
use super::breakdown::{BREAKDOWN_BINS, BreakdownSums, LossBin, PairSums, bin};

/// Histograms side by side: neighbours that fall into one bin need not wait for each other.
const WAYS: usize = 4;

/// Sums that grow piece by piece.
pub(super) struct Tally {
    /// All but the negatives' classes and bins.
    sums: BreakdownSums,
    /// The negatives' loss at each place of a piece, which has some whole rows.
    columns: Vec<f64>,
    /// Loss and count of each bin, [`WAYS`] times.
    slots: Vec<[f64; 2]>,
}

impl Tally {
    /// An empty tally for pieces of so many pairs, some whole rows.
    pub(super) fn new(classes: usize, piece: usize) -> Self {
        Self {
            sums: BreakdownSums::zero(classes),
            columns: vec![0.0; piece],
            slots: vec![[0.0; 2]; WAYS * BREAKDOWN_BINS],
        }
    }

    /// Adds neighbouring pairs of one kind, the first of which is of class `column`.
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

    /// Adds the sums of later rows.
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

    /// The breakdown of all rows that were added.
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
