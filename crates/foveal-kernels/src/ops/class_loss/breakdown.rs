//! The breakdown of a class loss: partial sums by pyramid level, class and magnitude that show where the loss comes
//! from.
//!
//! One flat tensor holds all sums, so that one read transfers them from any device: first the values that scale with
//! the loss ([`BreakdownLayout::scaled`] of them), then those that do not.
use std::ops::Range;

/// Number of pyramid levels in a breakdown, P3 to P7. Equals `LEVELS` of `foveal-anchors`; a test of `foveal-criterion`
/// compares the two constants.
pub const BREAKDOWN_LEVELS: usize = 5;

/// Number of bins of the histogram of the negatives' losses. Bin 0 contains losses below 2^-32, the last bin losses of
/// 2^4 and above. Between them there are two bins per octave, which begin at a power of two and at 1.5 times that
/// power.
pub const BREAKDOWN_BINS: usize = 2 * (HIGHEST - LOWEST) as usize + 2;
/// Exponent of the lower bound of bin 1.
const LOWEST: i32 = -32;
/// Exponent of the lower bound of the last bin.
const HIGHEST: i32 = 4;
/// Shift that leaves the sign, the exponent and the first bit of the mantissa of an `f32`, which determine its bin.
pub(super) const SHIFT: u32 = 22;
/// The exponent and the first bit of the mantissa of the lower bound of bin 1.
pub(super) const FIRST: i32 = (127 + LOWEST) << 1;

/// The bin of a loss. NaN goes to the last bin.
#[inline(always)]
pub(super) fn bin(loss: f32) -> usize {
    let place = (loss.to_bits() >> SHIFT) as i32 - FIRST + 1;
    place.clamp(0, BREAKDOWN_BINS as i32 - 1) as usize
}

/// Returns the lower bound of a bin of the negatives' losses; 0 for bin 0.
///
/// # Panics
/// If `bin` is not below [`BREAKDOWN_BINS`].
pub fn breakdown_bin_start(bin: usize) -> f32 {
    assert!(bin < BREAKDOWN_BINS, "breakdown: bin {bin} of {BREAKDOWN_BINS} bins");
    if bin == 0 { 0.0 } else { f32::from_bits(((FIRST + bin as i32 - 1) as u32) << SHIFT) }
}

/// Assignment of the rows of the logits to pyramid levels, needed for a breakdown of the class loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakdownLayout {
    /// Number of anchors of each pyramid level in one image, from P3 to P7. The rows of an image are its levels in this
    /// order.
    pub level_anchors: [usize; BREAKDOWN_LEVELS],
}

/// Number of sums per level that scale with the loss: losses and gradients of positives and negatives.
const SCALED: usize = 4;
/// Number of sums per level that do not scale with the loss: scores of positives and negatives.
const UNSCALED: usize = 2;

impl BreakdownLayout {
    /// Returns the number of anchors per image, over all levels.
    pub fn anchors(&self) -> usize {
        self.level_anchors.iter().sum()
    }

    /// The level of an anchor of an image, and the number of anchors of that level from this one on.
    ///
    /// # Panics
    /// If the image has no such anchor.
    pub fn level(&self, anchor: usize) -> (usize, usize) {
        let mut end = 0;
        for (level, anchors) in self.level_anchors.iter().enumerate() {
            end += anchors;
            if anchor < end {
                return (level, end - anchor);
            }
        }
        panic!("class loss: anchor {anchor} of an image of {end} anchors");
    }

    /// Returns the number of values of a flat breakdown for `classes` classes that scale with the loss. They come first
    /// and have to be divided by the normalizer like the loss.
    pub fn scaled(classes: usize) -> usize {
        SCALED * BREAKDOWN_LEVELS + 2 * classes + BREAKDOWN_BINS
    }

    /// Returns the total number of values of a flat breakdown for `classes` classes.
    pub fn values(classes: usize) -> usize {
        Self::scaled(classes) + UNSCALED * BREAKDOWN_LEVELS + BREAKDOWN_BINS
    }
}

/// Sums over pairs of an anchor and a class, either all positives or all negatives of a pyramid level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairSums {
    /// Sum of the pairs' weighted losses.
    pub loss: f64,
    /// Sum of the absolute values of the loss's derivatives with respect to the logits.
    pub gradient: f64,
    /// Sum of the scores, the sigmoids of the logits: `p_t` for positives, `1 - p_t` for negatives.
    pub score: f64,
}

/// One bin of the histogram of the negatives' losses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossBin {
    /// Number of (anchor, class) pairs in the bin.
    pub count: f64,
    /// Sum of the losses of the pairs in the bin.
    pub loss: f64,
}

/// Breakdown of a class loss, on the host. Positives are pairs of an anchor and the class of its object. Negatives are
/// all other pairs of anchors that are not ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakdownSums {
    /// Sums over the positives of each pyramid level, from P3 to P7.
    pub positive: [PairSums; BREAKDOWN_LEVELS],
    /// Sums over the negatives of each pyramid level, from P3 to P7.
    pub negative: [PairSums; BREAKDOWN_LEVELS],
    /// Sum of the losses of the positives of each class, `[classes]`.
    pub positive_by_class: Vec<f64>,
    /// Sum of the losses of the negatives of each class, `[classes]`.
    pub negative_by_class: Vec<f64>,
    /// Histogram of the negatives' losses, [`BREAKDOWN_BINS`] bins. The bin of a pair is determined by its loss before
    /// division by the normalizer.
    pub bins: Vec<LossBin>,
}

impl BreakdownSums {
    /// Creates a breakdown for `classes` classes in which all sums are 0.
    pub fn zero(classes: usize) -> Self {
        Self {
            positive: Default::default(),
            negative: Default::default(),
            positive_by_class: vec![0.0; classes],
            negative_by_class: vec![0.0; classes],
            bins: vec![LossBin::default(); BREAKDOWN_BINS],
        }
    }

    /// Creates a breakdown from the values of the flat tensor [`ClassLoss::breakdown`](super::ClassLoss::breakdown),
    /// for `classes` classes.
    ///
    /// # Panics
    /// If the number of values is not [`BreakdownLayout::values`] for that number of classes.
    pub fn read(values: &[f32], classes: usize) -> Self {
        assert_eq!(
            values.len(),
            BreakdownLayout::values(classes),
            "breakdown: wrong number of values for {classes} classes"
        );
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

    /// The values of the flat form, [`BreakdownLayout::values`] numbers.
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

/// Index ranges of the positives' sums in a flat breakdown ([`BreakdownSums::read`]). A loss that computes the
/// positives separately from the kernel, such as quality focal loss, writes its sums there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositivePlaces {
    /// Indices in the flat breakdown of the summed losses of the positives: one value per pyramid level, P3 to P7.
    pub loss: Range<usize>,
    /// Indices in the flat breakdown of the summed absolute values of the positives' gradients: one value per pyramid
    /// level, P3 to P7.
    pub gradient: Range<usize>,
    /// Indices in the flat breakdown of the summed losses of the positives: one value per class, in class order.
    pub by_class: Range<usize>,
}

impl PositivePlaces {
    /// Returns the index ranges of the positives' sums in a flat breakdown for `classes` classes.
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
