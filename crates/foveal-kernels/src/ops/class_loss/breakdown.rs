//! The breakdown of a class loss: where it comes from, in sums small enough to be read from any device.
//!
//! One flat tensor holds them all, so that one read brings them to the host: first what scales with the loss
//! ([`BreakdownLayout::scaled`] values), then what does not.
use std::ops::Range;

/// Pyramid levels that a breakdown keeps apart: P3 to P7, `LEVELS` of `foveal-anchors` (a test of `foveal-criterion`
/// compares the two).
pub const BREAKDOWN_LEVELS: usize = 5;

/// Bins of the negatives' losses, two an octave: bin 0 is all below 2^-32, the last all from 2^4 on; between them a bin
/// begins at a power of two or at one and a half of it.
pub const BREAKDOWN_BINS: usize = 2 * (HIGHEST - LOWEST) as usize + 2;
const LOWEST: i32 = -32;
const HIGHEST: i32 = 4;
/// The exponent and the first bit of the mantissa of an `f32` number: what its bin follows from.
const SHIFT: u32 = 22;
/// The exponent and the first bit of the mantissa of the lower bound of bin 1.
const FIRST: i32 = (127 + LOWEST) << 1;

/// The bin of a loss; NaN counts as large.
#[inline(always)]
pub(super) fn bin(loss: f32) -> usize {
    let place = (loss.to_bits() >> SHIFT) as i32 - FIRST + 1;
    place.clamp(0, BREAKDOWN_BINS as i32 - 1) as usize
}

/// The least loss that falls into a bin; 0 for the first bin.
///
/// # Panics
/// If `bin` is not below [`BREAKDOWN_BINS`].
pub fn breakdown_bin_start(bin: usize) -> f32 {
    assert!(bin < BREAKDOWN_BINS, "bin {bin} of {BREAKDOWN_BINS}");
    if bin == 0 { 0.0 } else { f32::from_bits(((FIRST + bin as i32 - 1) as u32) << SHIFT) }
}

/// Which rows of the logits belong to which pyramid level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakdownLayout {
    /// Anchors of each level in one image; the rows of an image are its levels in order.
    pub level_anchors: [usize; BREAKDOWN_LEVELS],
}

/// Sums of a level's values that scale with the loss: the loss of positives and negatives, and their gradients'.
const SCALED: usize = 4;
/// Sums of a level's values that do not scale with the loss: the scores of positives and negatives.
const UNSCALED: usize = 2;

impl BreakdownLayout {
    /// Number of anchors of an image.
    pub fn anchors(&self) -> usize {
        self.level_anchors.iter().sum()
    }

    /// The level of an anchor of an image, and how many anchors of that level follow, itself included.
    pub(super) fn level(&self, anchor: usize) -> (usize, usize) {
        let mut end = 0;
        for (level, anchors) in self.level_anchors.iter().enumerate() {
            end += anchors;
            if anchor < end {
                return (level, end - anchor);
            }
        }
        panic!("class loss: anchor {anchor} of an image of {end}");
    }

    /// Number of values of the flat form, from the first, that scale with the loss.
    pub fn scaled(classes: usize) -> usize {
        SCALED * BREAKDOWN_LEVELS + 2 * classes + BREAKDOWN_BINS
    }

    /// Number of values of the flat form.
    pub fn values(classes: usize) -> usize {
        Self::scaled(classes) + UNSCALED * BREAKDOWN_LEVELS + BREAKDOWN_BINS
    }
}

/// Sums over pairs of anchor and class of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairSums {
    /// Sum of the losses.
    pub loss: f64,
    /// Sum of the magnitudes of the gradients by the logits.
    pub gradient: f64,
    /// Sum of the scores (the sigmoids of the logits): `p_t` of positives, `1 - p_t` of negatives.
    pub score: f64,
}

/// Negatives whose losses are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossBin {
    /// Number of pairs.
    pub count: f64,
    /// Sum of the pairs' losses.
    pub loss: f64,
}

/// A breakdown on the host. Positives are pairs of an anchor and the class of its object, negatives all other pairs of
/// anchors that take part.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakdownSums {
    /// Positives of each level.
    pub positive: [PairSums; BREAKDOWN_LEVELS],
    /// Negatives of each level.
    pub negative: [PairSums; BREAKDOWN_LEVELS],
    /// Loss of each class's positives.
    pub positive_by_class: Vec<f64>,
    /// Loss of each class's negatives.
    pub negative_by_class: Vec<f64>,
    /// Negatives by their loss, before any division.
    pub bins: Vec<LossBin>,
}

impl BreakdownSums {
    /// The breakdown of no pairs, for a number of classes.
    pub fn zero(classes: usize) -> Self {
        Self {
            positive: Default::default(),
            negative: Default::default(),
            positive_by_class: vec![0.0; classes],
            negative_by_class: vec![0.0; classes],
            bins: vec![LossBin::default(); BREAKDOWN_BINS],
        }
    }

    /// Takes apart the flat form, [`BreakdownLayout::values`] numbers.
    ///
    /// # Panics
    /// If the values are those of another number of classes.
    pub fn read(values: &[f32], classes: usize) -> Self {
        assert_eq!(values.len(), BreakdownLayout::values(classes), "a breakdown of {classes} classes");
        let mut rest = values;
        let mut next = |n: usize| {
            let (taken, after) = rest.split_at(n);
            rest = after;
            taken.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>()
        };
        let [positive_loss, negative_loss, positive_slope, negative_slope] = [(); 4].map(|()| next(BREAKDOWN_LEVELS));
        let (positive_by_class, negative_by_class, bin_loss) = (next(classes), next(classes), next(BREAKDOWN_BINS));
        let [positive_score, negative_score] = [(); 2].map(|()| next(BREAKDOWN_LEVELS));
        let counts = next(BREAKDOWN_BINS);
        let level = |loss: &[f64], gradient: &[f64], score: &[f64]| {
            std::array::from_fn(|l| PairSums { loss: loss[l], gradient: gradient[l], score: score[l] })
        };
        Self {
            positive: level(&positive_loss, &positive_slope, &positive_score),
            negative: level(&negative_loss, &negative_slope, &negative_score),
            positive_by_class,
            negative_by_class,
            bins: counts.into_iter().zip(bin_loss).map(|(count, loss)| LossBin { count, loss }).collect(),
        }
    }

    /// The flat form, [`BreakdownLayout::values`] numbers.
    pub(super) fn write(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(BreakdownLayout::values(self.positive_by_class.len()));
        let mut push = |part: &mut dyn Iterator<Item = f64>| values.extend(part.map(|v| v as f32));
        push(&mut self.positive.iter().map(|s| s.loss));
        push(&mut self.negative.iter().map(|s| s.loss));
        push(&mut self.positive.iter().map(|s| s.gradient));
        push(&mut self.negative.iter().map(|s| s.gradient));
        push(&mut self.positive_by_class.iter().copied());
        push(&mut self.negative_by_class.iter().copied());
        push(&mut self.bins.iter().map(|b| b.loss));
        push(&mut self.positive.iter().map(|s| s.score));
        push(&mut self.negative.iter().map(|s| s.score));
        push(&mut self.bins.iter().map(|b| b.count));
        values
    }
}

/// Places of the positives' values in the flat form, for losses that compute those by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositivePlaces {
    /// Places of the positives' loss, by level.
    pub loss: Range<usize>,
    /// Places of the magnitude of the positives' gradient, by level.
    pub gradient: Range<usize>,
    /// Places of the positives' loss, by class.
    pub by_class: Range<usize>,
}

impl PositivePlaces {
    /// The places in the flat form for a number of classes.
    pub fn new(classes: usize) -> Self {
        let by_class = SCALED * BREAKDOWN_LEVELS;
        Self {
            loss: 0..BREAKDOWN_LEVELS,
            gradient: 2 * BREAKDOWN_LEVELS..3 * BREAKDOWN_LEVELS,
            by_class: by_class..by_class + classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_begin_where_they_say() {
        for i in 1..BREAKDOWN_BINS {
            let start = breakdown_bin_start(i);
            assert_eq!(bin(start), i, "{start}");
            assert_eq!(bin(f32::from_bits(start.to_bits() - 1)), i - 1, "below {start}");
        }
        assert_eq!((breakdown_bin_start(1), breakdown_bin_start(BREAKDOWN_BINS - 1)), (2f32.powi(-32), 16.0));
        assert_eq!((breakdown_bin_start(65), breakdown_bin_start(66)), (1.0, 1.5));
        assert_eq!((bin(0.0), bin(f32::MIN_POSITIVE), bin(1e30), bin(f32::NAN)), (0, 0, 73, 73));
    }

    #[test]
    fn the_flat_form_comes_back() {
        let values: Vec<f32> = (0..BreakdownLayout::values(3)).map(|i| i as f32).collect();
        assert_eq!(BreakdownSums::read(&values, 3).write(), values);
        let places = PositivePlaces::new(3);
        let sums = BreakdownSums::read(&values, 3);
        assert_eq!(sums.positive[1].loss, places.loss.start as f64 + 1.0);
        assert_eq!(sums.positive[1].gradient, places.gradient.start as f64 + 1.0);
        assert_eq!(sums.positive_by_class[0], places.by_class.start as f64);
        assert_eq!(BreakdownLayout::scaled(3) + 84, BreakdownLayout::values(3));
    }

    #[test]
    fn levels_of_anchors() {
        let layout = BreakdownLayout { level_anchors: [4, 0, 2, 1, 0] };
        assert_eq!([0, 3, 4, 5, 6].map(|a| layout.level(a)), [(0, 4), (0, 1), (2, 2), (2, 1), (3, 1)]);
    }
}
