//! The network's outputs as post-processing reads them from the device.
//!
//! From a CPU, all logits and deltas are taken. A GPU picks the pairs of an anchor and a class that can become
//! detections, and only these are copied to the host: of 201,600 anchors with 80 classes, the
//! logits take 64.5 MB and the list of candidates 0.24 MB.

use burn::tensor::{Tensor, TensorData, Transaction};
use foveal_boxes::Delta;
use foveal_heads::BOX_VALUES;
use foveal_kernels::{
    CANDIDATE_BYTES, Candidate, CandidateOptions, DeviceCandidates, ImageCandidates, pick_candidates,
};
use rayon::prelude::*;

use crate::model::Dense;
use crate::topk::Scored;

/// Places in a GPU's list of candidates for each pair of a level that can enter non-maximum suppression. The list has
/// more pairs than these, because the GPU compares rounded logits.
const PLACES_PER_PAIR: usize = 2;

/// The outputs of a batch in host memory.
#[derive(Debug)]
pub(crate) enum Outputs {
    /// All logits, `[batch, anchors, channels]`, and all deltas, `[batch, anchors, 4]`.
    Whole { logits: Vec<f32>, deltas: Vec<f32> },
    /// The candidates of each image, in the order of their pairs; `None` if an output of the image is not finite.
    Candidates(Vec<Option<Vec<Candidate>>>),
}

/// The outputs of an image, all of which are finite.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ImageOutputs<'a> {
    /// All logits, `[anchors, channels]`, and all deltas, `[anchors, 4]`.
    Whole { logits: &'a [f32], deltas: &'a [f32] },
    /// At least the pairs that can become detections, in the order of the pairs.
    Candidates(&'a [Candidate]),
}

/// Which pairs of an anchor and a class channel can become detections.
pub(crate) struct Selection<'a> {
    /// First anchor of each level, and the number of anchors.
    pub level_offsets: &'a [usize],
    /// The class of each channel, if it has one.
    pub class_of: &'a [Option<u32>],
    /// A detection has a score above this.
    pub threshold: f32,
    /// Number of pairs of a level that enter non-maximum suppression.
    pub per_level: usize,
}

impl Selection<'_> {
    /// Pairs with a logit of at most this value have no score above the threshold. The margin covers rounding.
    fn cut(&self) -> f32 {
        let threshold = self.threshold;
        if threshold > 0.0 { (threshold / (1.0 - threshold)).ln() - 1e-3 } else { f32::NEG_INFINITY }
    }

    /// The scores above the threshold, of channels with a class.
    fn scores(&self, pairs: impl Iterator<Item = (u32, f32)>) -> Vec<Scored> {
        let cut = self.cut();
        pairs
            .filter(|(pair, logit)| *logit > cut && self.class_of[*pair as usize % self.class_of.len()].is_some())
            .map(|(index, logit)| Scored { score: 1.0 / (1.0 + (-logit).exp()), index })
            .filter(|s| s.score > self.threshold)
            .collect()
    }

    /// What a GPU picks; `None` if its list would have no places, or would not be shorter than all logits and deltas.
    fn options(&self) -> Option<CandidateOptions> {
        let (levels, anchors) = (self.level_offsets.len() - 1, *self.level_offsets.last()?);
        let capacity = levels.saturating_mul(self.per_level).saturating_mul(PLACES_PER_PAIR);
        let whole = anchors * (self.class_of.len() + BOX_VALUES) * size_of::<f32>();
        (capacity > 0 && capacity.saturating_mul(CANDIDATE_BYTES) < whole).then(|| CandidateOptions {
            level_ends: self.level_offsets[1..].to_vec(),
            has_class: self.class_of.iter().map(Option::is_some).collect(),
            cut: self.cut(),
            per_level: self.per_level,
            capacity,
        })
    }
}

impl Outputs {
    /// Reads the outputs of a batch, together with `scalars`, each `[1]`. Waits for the device once; in rare cases, in
    /// which very many pairs of an image have nearly the same logit, a second time.
    pub(crate) fn read<const N: usize>(
        dense: &Dense,
        selection: &Selection,
        scalars: [Tensor<1>; N],
    ) -> (Self, [f32; N]) {
        let options = selection.options();
        let picked = options.and_then(|options| pick_candidates(dense.logits.clone(), dense.deltas.clone(), &options));
        let Some(DeviceCandidates { headers, records }) = picked else { return Self::read_whole(dense, scalars) };
        let transaction = Transaction::default().register(headers).register(records);
        let (data, scalars) = execute(transaction, scalars);
        let [headers, records] = data.map(ints);
        match Self::from_candidates(ImageCandidates::parse(&headers, &records)) {
            Some(outputs) => (outputs, scalars),
            None => (Self::read_whole(dense, []).0, scalars),
        }
    }

    fn read_whole<const N: usize>(dense: &Dense, scalars: [Tensor<1>; N]) -> (Self, [f32; N]) {
        let transaction = Transaction::default().register(dense.logits.clone()).register(dense.deltas.clone());
        let (data, scalars) = execute(transaction, scalars);
        let [logits, deltas] = data.map(floats);
        (Self::Whole { logits, deltas }, scalars)
    }

    /// The candidates in the order of their pairs; `None` if there were too many for the list of an image.
    fn from_candidates(images: Vec<ImageCandidates>) -> Option<Self> {
        let sorted = images.into_par_iter().map(|image| match image {
            ImageCandidates::Found(mut found) => {
                found.sort_unstable_by_key(|candidate| candidate.pair);
                Some(Some(found))
            }
            ImageCandidates::NonFinite => Some(None),
            ImageCandidates::Overflow => None,
        });
        sorted.collect::<Option<_>>().map(Self::Candidates)
    }

    /// The outputs of each image; `None` for an image with an output that is not finite. There are `anchors * channels`
    /// logits in an image.
    pub(crate) fn images(&self, anchors: usize, channels: usize) -> Vec<Option<ImageOutputs<'_>>> {
        match self {
            Self::Candidates(images) => images.iter().map(|i| i.as_deref().map(ImageOutputs::Candidates)).collect(),
            Self::Whole { logits, deltas } => {
                let images = logits.par_chunks(anchors * channels).zip(deltas.par_chunks(anchors * BOX_VALUES));
                let checked = images.map(|(logits, deltas)| {
                    (all_finite(logits) && all_finite(deltas)).then_some(ImageOutputs::Whole { logits, deltas })
                });
                checked.collect()
            }
        }
    }
}

impl ImageOutputs<'_> {
    /// The scores above the threshold of a level's pairs, of channels with a class. The index of a score is that of its
    /// pair.
    pub(crate) fn scores(&self, level: usize, selection: &Selection) -> Vec<Scored> {
        let channels = selection.class_of.len();
        let [from, to] = [level, level + 1].map(|level| selection.level_offsets[level] * channels);
        match self {
            Self::Whole { logits, .. } => selection.scores((from as u32..).zip(logits[from..to].iter().copied())),
            Self::Candidates(all) => {
                let [from, to] = [from, to].map(|end| all.partition_point(|c| (c.pair as usize) < end));
                selection.scores(all[from..to].iter().map(|c| (c.pair, c.logit)))
            }
        }
    }

    /// The deltas of the anchor of a pair, whose score is one of [`ImageOutputs::scores`].
    pub(crate) fn delta(&self, pair: u32, channels: usize) -> Delta {
        let [dx, dy, dw, dh] = match self {
            Self::Whole { deltas, .. } => {
                let first = pair as usize / channels * BOX_VALUES;
                [0, 1, 2, 3].map(|value| deltas[first + value])
            }
            Self::Candidates(all) => {
                let at = all.binary_search_by_key(&pair, |candidate| candidate.pair);
                all[at.expect("the pair is one of the candidates")].delta
            }
        };
        Delta { dx, dy, dw, dh }
    }
}

/// Whether no value is NaN or infinite.
fn all_finite(values: &[f32]) -> bool {
    // Without an early return the loop is vectorised. As integers, the bits of all numbers are below those of infinity.
    const MAGNITUDE: u32 = 0x7FFF_FFFF;
    values.iter().fold(0, |most, value| most.max(value.to_bits() & MAGNITUDE)) < f32::INFINITY.to_bits()
}

/// Reads the two tensors of a transaction together with `scalars`.
fn execute<const N: usize>(transaction: Transaction, scalars: [Tensor<1>; N]) -> ([TensorData; 2], [f32; N]) {
    let mut data = scalars.into_iter().fold(transaction, |all, scalar| all.register(scalar)).execute();
    let scalars = data.split_off(2).into_iter().map(|scalar| floats(scalar)[0]).collect::<Vec<f32>>();
    let data = data.try_into().expect("the transaction has two tensors");
    (data, scalars.try_into().expect("each scalar is read"))
}

fn floats(data: TensorData) -> Vec<f32> {
    data.convert::<f32>().try_to_vec().expect("floats are readable as f32")
}

fn ints(data: TensorData) -> Vec<i32> {
    data.convert::<i32>().try_to_vec().expect("integers are readable as i32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topk::best;

    const CHANNELS: usize = 3;
    const LEVELS: [usize; 3] = [0, 40, 50];
    const CLASSES: [Option<u32>; CHANNELS] = [Some(0), None, Some(1)];

    fn selection(threshold: f32, per_level: usize) -> Selection<'static> {
        Selection { level_offsets: &LEVELS, class_of: &CLASSES, threshold, per_level }
    }

    /// Logits of which some are equal, and some so large that their scores are equal.
    fn logits() -> Vec<f32> {
        (0..50 * CHANNELS as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32 / 4.0 - 30.0).collect()
    }

    /// Candidates of all pairs that satisfy `wanted`, in another order than that of the pairs.
    fn candidates(logits: &[f32], deltas: &[f32], wanted: impl Fn(u32, f32) -> bool) -> ImageCandidates {
        let all = (0..).zip(logits).filter(|(pair, logit)| wanted(*pair, **logit)).map(|(pair, &logit)| {
            let first = pair as usize / CHANNELS * 4;
            Candidate { pair, logit, delta: deltas[first..first + 4].try_into().unwrap() }
        });
        ImageCandidates::Found(all.collect::<Vec<_>>().into_iter().rev().collect())
    }

    #[test]
    fn a_list_without_places_is_not_asked_for() {
        assert!(selection(0.5, 0).options().is_none());
    }

    #[test]
    fn candidates_give_the_scores_and_deltas_of_all_outputs() {
        let (logits, deltas) = (logits(), (0..200).map(|i| i as f32).collect::<Vec<f32>>());
        let whole = ImageOutputs::Whole { logits: &logits, deltas: &deltas };
        for (threshold, per_level) in [(0.0, 1000), (0.0, 20), (0.05, 7), (0.5, 1), (0.99, 3), (1.0, 5)] {
            let selection = selection(threshold, per_level);
            // Pairs that are not needed do no harm.
            for margin in [0.0, 3.0] {
                let wanted = |_, logit| logit > selection.cut() - margin;
                let outputs = Outputs::from_candidates(vec![candidates(&logits, &deltas, wanted)]).unwrap();
                let image = outputs.images(50, CHANNELS)[0].unwrap();
                for level in 0..2 {
                    let [expected, found] = [whole, image].map(|i| best(i.scores(level, &selection), per_level));
                    assert_eq!(found, expected, "threshold {threshold}");
                    for pair in expected.iter().map(|s| s.index) {
                        assert_eq!(image.delta(pair, CHANNELS), whole.delta(pair, CHANNELS));
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_that_overflowed_gives_no_outputs_and_one_that_is_not_finite_none_of_its_image() {
        let found = || ImageCandidates::Found(Vec::new());
        assert!(Outputs::from_candidates(vec![found(), ImageCandidates::Overflow]).is_none());
        assert!(Outputs::from_candidates(vec![ImageCandidates::NonFinite, ImageCandidates::Overflow]).is_none());
        let outputs = Outputs::from_candidates(vec![found(), ImageCandidates::NonFinite]).unwrap();
        let finite: Vec<bool> = outputs.images(50, CHANNELS).iter().map(Option::is_some).collect();
        assert_eq!(finite, [true, false]);
    }

    #[test]
    fn a_gpu_picks_candidates_only_if_they_are_less_than_all_outputs() {
        // 50 anchors of 3 + 4 values take 1,400 bytes, 2 levels of 2 places for each pair 96 bytes for each pair.
        let options = selection(0.0, 14).options().unwrap();
        assert_eq!((options.capacity, options.level_ends), (56, vec![40, 50]));
        assert_eq!(options.has_class, [true, false, true]);
        assert!(selection(0.0, 15).options().is_none());
        assert!(selection(0.0, usize::MAX).options().is_none());
    }
}
