//! The training targets of the anchors of one image.

use crate::{Anchors, Match, MatcherConfig};
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

/// The training targets of the anchors of one image, and the objects that none of them is trained to detect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatchedImage {
    /// The training targets of the anchors.
    pub targets: ImageTargets,
    /// Indices of the objects that got no anchor, in ascending order.
    pub without_anchor: Vec<u32>,
}

/// Matches the anchors of one image with its objects and computes the training targets. Degenerate objects (without
/// width or height, or not finite) get no anchor.
///
/// # Shapes
/// - anchors: those of the padded image, `[anchors]`
/// - objects, in pixels of the padded image: `[objects]`
/// - classes of the objects: `[objects]`
/// - crowds, the crowd regions in pixels of the padded image: `[crowds]`
///
/// # Panics
/// If `objects` and `classes` differ in length.
pub fn match_image(
    anchors: &Anchors,
    objects: &[BBox],
    classes: &[u32],
    crowds: &[BBox],
    matcher: &MatcherConfig,
) -> MatchedImage {
    assert_eq!(objects.len(), classes.len(), "expected one class for each object");
    let mut targets = ImageTargets { classes: Vec::with_capacity(anchors.boxes.len()), positives: Vec::new() };
    let mut has_anchor = vec![false; objects.len()];
    for (index, matched) in matcher.assign(anchors, objects, crowds).into_iter().enumerate() {
        let class = match matched {
            Match::Background => BACKGROUND,
            Match::Ignore => IGNORE,
            Match::Object(o) => {
                has_anchor[o as usize] = true;
                let (anchor_box, object, class) = (anchors.boxes[index], objects[o as usize], classes[o as usize]);
                let delta = encode(&anchor_box, &object);
                targets.positives.push(Positive { anchor: index as u32, class, anchor_box, object, delta });
                class as i32
            }
        };
        targets.classes.push(class);
    }
    let without_anchor = (0..).zip(has_anchor).filter(|(_, has_anchor)| !has_anchor).map(|(object, _)| object);
    MatchedImage { targets, without_anchor: without_anchor.collect() }
}

/// Computes the training targets of the anchors of one image as [`match_image`] does, without the list of the objects
/// that got no anchor.
///
/// # Shapes
/// - anchors: those of the padded image, `[anchors]`
/// - objects, in pixels of the padded image: `[objects]`
/// - classes of the objects: `[objects]`
/// - crowds, the crowd regions in pixels of the padded image: `[crowds]`
///
/// # Panics
/// If `objects` and `classes` differ in length.
pub fn image_targets(
    anchors: &Anchors,
    objects: &[BBox],
    classes: &[u32],
    crowds: &[BBox],
    matcher: &MatcherConfig,
) -> ImageTargets {
    match_image(anchors, objects, classes, crowds, matcher).targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnchorConfig, MatcherKind, grid_sizes};

    #[test]
    fn classes_and_positives_agree() {
        let boxes =
            vec![BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(50.0, 0.0, 60.0, 10.0), BBox::new(0.0, 0.0, 4.5, 10.0)];
        let anchors = Anchors { level_offsets: vec![0, 3], boxes, anchors_per_location: 3, grids: Vec::new() };
        let object = BBox::new(0.0, 0.0, 10.0, 10.0);
        let targets = image_targets(&anchors, &[object], &[7], &[], &MatcherConfig::default());
        assert_eq!(targets.classes, vec![7, BACKGROUND, IGNORE]);
        let delta = Delta::default();
        let anchor_box = anchors.boxes[0];
        assert_eq!(targets.positives, vec![Positive { anchor: 0, class: 7, anchor_box, object, delta }]);
        assert_eq!(image_targets(&anchors, &[], &[], &[], &MatcherConfig::default()).classes, vec![BACKGROUND; 3]);
    }

    #[test]
    fn objects_without_an_anchor_are_listed_with_every_rule() {
        let config = AnchorConfig { scales: 1, ratios: vec![1.0], ..AnchorConfig::default() };
        let anchors = config.anchors(128, 128, &grid_sizes(128, 128));
        // The second object lies outside, the third is degenerate, and the last equals the first.
        let object = BBox::new(20.0, 20.0, 60.0, 60.0);
        let objects = [
            object,
            BBox::new(900.0, 0.0, 950.0, 50.0),
            BBox::new(5.0, 5.0, 5.0, 9.0),
            BBox::new(60.0, 64.0, 100.0, 99.0),
            object,
        ];
        for kind in [MatcherKind::Iou, MatcherKind::Atss] {
            let matcher = MatcherConfig { kind, ..MatcherConfig::default() };
            let matched = match_image(&anchors, &objects, &[0, 1, 2, 3, 4], &[], &matcher);
            assert_eq!(matched.without_anchor, [1, 2, 4], "{kind:?}");
            let mut found: Vec<u32> = matched.targets.positives.iter().map(|p| p.class).collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found, [0, 3], "{kind:?}");
        }
    }
}
