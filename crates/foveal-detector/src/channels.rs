//! The assignment of classes to the channels of the class head, for heads with more channels than classes.

use foveal_anchors::ImageTargets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Assignment of classes to the channels of the class head, for heads with channels that stand for no class:
/// torchvision's background (channel 0) and the COCO ids without a category. Channels without a class keep their
/// weights, count as negatives in the loss and never become detections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassChannels {
    /// Number of class channels per anchor, including the channels that stand for no class.
    pub count: usize,
    /// Index of the channel of each class, in class order. Every index is below `count` and occurs once.
    pub of_class: Vec<u32>,
}

impl ClassChannels {
    /// Returns the class of each channel, `None` for a channel that stands for no class.
    ///
    /// # Shapes
    /// - result: `[count]`
    ///
    /// # Panics
    /// If an index in `of_class` is not below `count`.
    pub fn classes(&self) -> Vec<Option<u32>> {
        let mut classes = vec![None; self.count];
        for (class, channel) in (0..).zip(&self.of_class) {
            classes[*channel as usize] = Some(class);
        }
        classes
    }

    /// Replaces the class of every positive anchor in [`ImageTargets::classes`] by its channel, so that the class loss
    /// can be computed over all channels of the head. Background and ignored anchors stay as they are, and so does
    /// [`ImageTargets::positives`].
    ///
    /// # Panics
    /// If a class has no entry in `of_class`.
    pub fn retarget(&self, targets: &mut [ImageTargets]) {
        for class in targets.iter_mut().flat_map(|t| &mut t.classes) {
            // The markers of background and ignored anchors are negative numbers.
            if let Ok(index) = usize::try_from(*class) {
                *class = self.of_class[index] as i32;
            }
        }
    }

    /// Whether there is at least one class and every class has a channel that no other class has.
    pub(crate) fn is_sound(&self) -> bool {
        let mut taken = vec![false; self.count];
        !self.of_class.is_empty()
            && self
                .of_class
                .iter()
                .all(|channel| taken.get_mut(*channel as usize).is_some_and(|taken| !std::mem::replace(taken, true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_channels_are_each_others_inverse() {
        let channels = ClassChannels { count: 4, of_class: vec![1, 3] };
        assert_eq!(channels.classes(), [None, Some(0), None, Some(1)]);
        let mut targets = [ImageTargets { classes: vec![-1, 1, -2, 0], positives: Vec::new() }];
        channels.retarget(&mut targets);
        assert_eq!(targets[0].classes, [-1, 3, -2, 1]);
        assert!(channels.is_sound());
        assert!(!ClassChannels { count: 3, of_class: vec![1, 3] }.is_sound());
        assert!(!ClassChannels { count: 4, of_class: vec![1, 1] }.is_sound());
    }
}
