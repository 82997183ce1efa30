//! The pairs of an anchor and a class that can become detections, picked on a GPU, so that the host reads only these
//! and not all logits and deltas.
//!
//! A histogram of the logits of each image and pyramid level shows above which logit there are as many pairs as may
//! enter non-maximum suppression. All pairs above it, and those that may have the same score, are written to a list of
//! fixed length. The list is not sorted, and it may have more pairs than are needed: the host selects among them as it
//! does among all pairs.
#[cfg(feature = "wgpu")]
mod kernel;
#[cfg(feature = "wgpu")]
mod node;

use burn::tensor::{Int, Tensor};

/// Number of words of the entry of a pair in the list: its index, its logit and the four deltas of its anchor.
const RECORD: usize = 6;
/// Number of words of an image's header: the number of its pairs, and whether one of its values is not finite.
const HEADER: usize = 2;
/// Bytes that the host reads for each place in the list of [`pick_candidates`].
pub const CANDIDATE_BYTES: usize = RECORD * 4;

/// Which pairs [`pick_candidates`] picks.
#[derive(Clone, Debug)]
pub struct CandidateOptions {
    /// The first anchor after those of each pyramid level, in ascending order: `[levels]`.
    pub level_ends: Vec<usize>,
    /// Whether the channel stands for a class, for each class channel. Pairs of other channels are left out.
    pub has_class: Vec<bool>,
    /// Pairs with a logit of at most this value are left out.
    pub cut: f32,
    /// Number of pairs that are needed of each level. The list has at least the pairs with the highest scores, and of
    /// equal scores all.
    pub per_level: usize,
    /// Number of pairs that the list of an image can hold.
    pub capacity: usize,
}

/// A pair of an anchor and a class channel, with the network's output for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the pair: that of the anchor times the number of class channels, plus that of the channel.
    pub pair: u32,
    /// Class logit of the pair.
    pub logit: f32,
    /// Box deltas dx, dy, dw, dh of the anchor.
    pub delta: [f32; 4],
}

/// The candidates of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageCandidates {
    /// All candidates, in no particular order.
    Found(Vec<Candidate>),
    /// A logit or a delta of the image is NaN or infinite.
    NonFinite,
    /// There are more candidates than the list can hold.
    Overflow,
}

/// The candidates of a batch, still on the device. Both tensors have to be read for [`ImageCandidates::parse`].
#[derive(Clone, Debug)]
pub struct DeviceCandidates {
    /// For each image the number of its candidates, and 1 if one of its values is not finite: `[batch * 2]`.
    pub headers: Tensor<1, Int>,
    /// The candidates of each image: `[batch * capacity * 6]`. The words are the index of the pair and the bits of the
    /// logit and of the deltas.
    pub records: Tensor<1, Int>,
}

/// Picks the candidates of a batch on a GPU. Reads nothing from the device. Returns `None` if the tensors are not on a
/// GPU.
///
/// # Shapes
/// - logits: `[batch, anchors, class channels]`
/// - deltas: `[batch, anchors, 4]`
///
/// # Panics
/// If the number of anchors or of class channels differs from that in `options`.
pub fn pick_candidates(logits: Tensor<3>, deltas: Tensor<3>, options: &CandidateOptions) -> Option<DeviceCandidates> {
    let [batch, anchors, channels] = logits.dims();
    assert_eq!(deltas.dims(), [batch, anchors, 4], "pick_candidates: shape of the deltas");
    assert_eq!(options.level_ends.last(), Some(&anchors), "pick_candidates: number of anchors");
    assert_eq!(options.has_class.len(), channels, "pick_candidates: number of class channels");
    if !crate::is_gpu(&logits.device()) {
        return None;
    }
    #[cfg(feature = "wgpu")]
    return Some(node::pick(logits, deltas, options));
    #[cfg(not(feature = "wgpu"))]
    None
}

impl ImageCandidates {
    /// Returns the candidates of each image from the values of [`DeviceCandidates`].
    ///
    /// # Panics
    /// If the numbers of values do not fit each other.
    pub fn parse(headers: &[i32], records: &[i32]) -> Vec<Self> {
        let capacity = records.len() / (headers.len() / HEADER).max(1) / RECORD;
        let images = headers.chunks_exact(HEADER).zip(records.chunks_exact((capacity * RECORD).max(1)));
        let parsed: Vec<Self> = images
            .map(|(header, records)| match (header[0] as u32 as usize, header[1]) {
                (_, 1) => Self::NonFinite,
                (count, _) if count > capacity => Self::Overflow,
                (count, _) => Self::Found(records.chunks_exact(RECORD).take(count).map(Candidate::parse).collect()),
            })
            .collect();
        assert_eq!(parsed.len() * HEADER, headers.len(), "candidates: as many lists as headers");
        parsed
    }
}

impl Candidate {
    fn parse(record: &[i32]) -> Self {
        let float = |at: usize| f32::from_bits(record[at] as u32);
        Self { pair: record[0] as u32, logit: float(1), delta: [float(2), float(3), float(4), float(5)] }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn lists_are_parsed_up_to_their_count() {
        let record = |pair: i32, logit: f32| {
            let floats = [logit, 0.5, -1.0, 2.0, -0.25].map(|v: f32| v.to_bits() as i32);
            [[pair].as_slice(), &floats].concat()
        };
        let records = [record(7, -1.5), record(3, 2.0), record(-1, 0.0), record(-1, 0.0)].concat();
        let parse = |headers: &[i32]| ImageCandidates::parse(headers, &records);
        let delta = [0.5, -1.0, 2.0, -0.25];
        let [first, second] = [Candidate { pair: 7, logit: -1.5, delta }, Candidate { pair: 3, logit: 2.0, delta }];
        assert_eq!(parse(&[2, 0, 0, 0]), [ImageCandidates::Found(vec![first, second]), ImageCandidates::Found(vec![])]);
        assert_eq!(parse(&[1, 1, 3, 0]), [ImageCandidates::NonFinite, ImageCandidates::Overflow]);
        assert_eq!(parse(&[3, 0, 0, 1])[0], ImageCandidates::Overflow);
        assert_eq!(ImageCandidates::parse(&[], &[]), []);
    }

    #[test]
    fn nothing_is_picked_on_a_cpu() {
        let device = Device::flex();
        let options =
            CandidateOptions { level_ends: vec![2], has_class: vec![true], cut: 0.0, per_level: 1, capacity: 1 };
        assert!(
            pick_candidates(Tensor::zeros([1, 2, 1], &device), Tensor::zeros([1, 2, 4], &device), &options).is_none()
        );
    }
}
