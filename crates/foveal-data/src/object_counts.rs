//! Numbers of the objects that training sees, with and without anchors.

use serde::{Deserialize, Serialize};

/// Numbers of objects of images, as they are in the training targets: after augmentation, and without crowd regions and
/// objects that are ignored because they are mostly cut off or smaller than `data.min_box`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCounts {
    /// Number of objects.
    pub objects: usize,
    /// Number of the objects to which the matcher assigns no anchor. No part of the network is trained to detect them,
    /// and the anchors around them are background or ignored.
    pub without_anchor: usize,
}

impl std::ops::AddAssign for ObjectCounts {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.without_anchor += other.without_anchor;
    }
}

impl std::iter::Sum for ObjectCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, each| {
            sum += each;
            sum
        })
    }
}
