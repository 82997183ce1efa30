//! The training targets of the anchors of one image.

use crate::{Match, MatcherConfig};
use foveal_boxes::{BBox, Delta, encode};

/// The value in [`ImageTargets::classes`] of an anchor that is trained as background.
pub const BACKGROUND: i32 = -1;

/// The value in [`ImageTargets::classes`] of an anchor that has no part in the loss.
pub const IGNORE: i32 = -2;

/// The training targets of the anchors of one image, which the loading workers compute on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageTargets {
    /// The class of each anchor, or [`BACKGROUND`] or [`IGNORE`]: `[anchors]`.
    pub classes: Vec<i32>,
    /// The anchors that are matched with an object, in the order of the anchors.
    pub positives: Vec<Positive>,
}

/// A positive anchor with the object that it is matched with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive {
    /// Index of the anchor among all anchors of the image.
    pub anchor: u32,
    /// Class of the object, from 0 to the number of classes minus 1.
    pub class: u32,
    /// Box of the anchor in pixels of the padded image.
    pub anchor_box: BBox,
    /// Box of the object in pixels of the padded image.
    pub object: BBox,
    /// Box of the object relative to the anchor: the regression target of the box head.
    pub delta: Delta,
}

/// Matches the anchors of one image with its objects and computes the training targets. Degenerate objects (without
/// width or height, or not finite) get no anchor.
///
/// # Shapes
/// - anchors, in pixels of the padded image: `[anchors]`
/// - objects, in pixels of the padded image: `[objects]`
/// - classes of the objects: `[objects]`
/// - crowds, the crowd regions in pixels of the padded image: `[crowds]`
///
/// # Panics
/// If `objects` and `classes` differ in length.
pub fn image_targets(
    anchors: &[BBox],
    objects: &[BBox],
    classes: &[u32],
    crowds: &[BBox],
    matcher: &MatcherConfig,
) -> ImageTargets {
    assert_eq!(objects.len(), classes.len(), "expected one class for each object");
    let mut targets = ImageTargets { classes: Vec::with_capacity(anchors.len()), positives: Vec::new() };
    for (index, matched) in matcher.assign(anchors, objects, crowds).into_iter().enumerate() {
        let class = match matched {
            Match::Background => BACKGROUND,
            Match::Ignore => IGNORE,
            Match::Object(o) => {
                let (anchor_box, object, class) = (anchors[index], objects[o as usize], classes[o as usize]);
                let delta = encode(&anchor_box, &object);
                targets.positives.push(Positive { anchor: index as u32, class, anchor_box, object, delta });
                class as i32
            }
        };
        targets.classes.push(class);
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_positives_agree() {
        let anchors =
            [BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(50.0, 0.0, 60.0, 10.0), BBox::new(0.0, 0.0, 4.5, 10.0)];
        let object = BBox::new(0.0, 0.0, 10.0, 10.0);
        let targets = image_targets(&anchors, &[object], &[7], &[], &MatcherConfig::default());
        assert_eq!(targets.classes, vec![7, BACKGROUND, IGNORE]);
        let delta = Delta::default();
        assert_eq!(targets.positives, vec![Positive { anchor: 0, class: 7, anchor_box: anchors[0], object, delta }]);
        assert_eq!(image_targets(&anchors, &[], &[], &[], &MatcherConfig::default()).classes, vec![BACKGROUND; 3]);
    }
}
