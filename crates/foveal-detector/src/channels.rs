//! Class channels that are not one a category.

use foveal_anchors::ImageTargets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of the head's class channels stands for which class, where there are channels without one: torchvision's
/// background (channel 0) and the ids that COCO does not use. They stay in the weights, take part in the loss as
/// negatives, and never become detections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassChannels {
    /// All channels of the class layer, an anchor.
    pub count: usize,
    /// The channel of each class, in class order.
    pub of_class: Vec<u32>,
}

impl ClassChannels {
    /// The class of each channel.
    pub fn classes(&self) -> Vec<Option<u32>> {
        let mut classes = vec![None; self.count];
        for (class, channel) in (0..).zip(&self.of_class) {
            classes[*channel as usize] = Some(class);
        }
        classes
    }

    /// Turns the classes of targets into channels, as the losses over all channels need them.
    pub fn retarget(&self, targets: &mut [ImageTargets]) {
        for class in targets.iter_mut().flat_map(|t| &mut t.classes) {
            // Background and ignored anchors are negative.
            if let Ok(index) = usize::try_from(*class) {
                *class = self.of_class[index] as i32;
            }
        }
    }

    /// Whether every class has a channel of its own.
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
