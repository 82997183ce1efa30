//! What the criterion needs to know of one image.

use crate::{Match, MatcherConfig};
use foveal_boxes::{BBox, Delta, encode};

/// The class of an anchor without an object in [`ImageTargets::classes`].
pub const BACKGROUND: i32 = -1;

/// The class of an anchor that the loss leaves out in [`ImageTargets::classes`].
pub const IGNORE: i32 = -2;

/// The targets of one image, made on the host by the loading workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageTargets {
    /// `[anchors]`: the class of each, [`BACKGROUND`] or [`IGNORE`].
    pub classes: Vec<i32>,
    /// The anchors with an object, in anchor order.
    pub positives: Vec<Positive>,
}

/// An anchor with its object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive {
    /// Index of the anchor.
    pub anchor: u32,
    /// The object's class.
    pub class: u32,
    /// The anchor in pixels of the padded image.
    pub anchor_box: BBox,
    /// The object in pixels of the padded image.
    pub object: BBox,
    /// The object relative to the anchor: what the box head learns.
    pub delta: Delta,
}

/// Matches the anchors of one image with its objects. Degenerate objects (no extent, not finite) are matched with
/// nothing.
///
/// # Shapes
/// `objects` and `classes` have one entry an object; all boxes are in pixels of the padded image.
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
    assert_eq!(objects.len(), classes.len(), "a class for each object");
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
