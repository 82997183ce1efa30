//! Matching of anchors with objects: which object each anchor is trained to detect.

mod atss;
mod config;
mod crowds;
mod iou_rule;
mod nearest;
pub(crate) mod tiles;

pub use config::{MatcherConfig, MatcherKind};

use foveal_boxes::BBox;

use crate::Anchors;

/// The training target of an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The anchor is a negative: it is trained as background.
    Background,
    /// The anchor is ignored: it has no part in the loss.
    Ignore,
    /// The anchor is a positive: it is trained to detect the object with this index.
    Object(u32),
}

impl MatcherConfig {
    /// Matches every anchor of an image with an object, with background or with nothing, by the rule of
    /// [`MatcherConfig::kind`]. Anchors over the padding are matched as all others are.
    ///
    /// With [`MatcherKind::Iou`], the object of an anchor is the one with the highest IoU, and the first of several
    /// such objects. An object that overlaps no anchor gets none; in torchvision, every anchor without overlap would
    /// become positive for it. With [`MatcherKind::Atss`], the only ignored anchors are those in crowd regions.
    ///
    /// # Shapes
    /// - anchors: those of the padded image, `[anchors]`
    /// - objects, in pixels of the padded image: `[objects]`
    /// - crowds, the crowd regions in pixels of the padded image: `[crowds]`
    /// - result, in the order of the anchors: `[anchors]`
    pub fn assign(&self, anchors: &Anchors, objects: &[BBox], crowds: &[BBox]) -> Vec<Match> {
        let crowds = if self.ignore_crowds { crowds } else { &[] };
        let by_iou = self.kind == MatcherKind::Iou;
        let needs_tiles = !crowds.is_empty() || by_iou && !objects.is_empty();
        let tiles = if needs_tiles { tiles::tiles(&anchors.boxes) } else { Vec::new() };
        let mut matches = match self.kind {
            MatcherKind::Iou => iou_rule::assign(self, &anchors.boxes, &tiles, objects),
            MatcherKind::Atss => atss::assign(self.candidates, anchors, objects),
        };
        crowds::ignore_within(&mut matches, &anchors.boxes, &tiles, crowds);
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnchorGrid, GridSize};

    /// Square anchors with sides of 10 pixels and centres at 0, 10, 20, ... pixels in a row, on one level.
    fn row(columns: usize) -> Anchors {
        let boxes = (0..columns).map(|x| BBox::new(x as f32 * 10.0 - 5.0, -5.0, x as f32 * 10.0 + 5.0, 5.0));
        Anchors {
            boxes: boxes.collect(),
            level_offsets: vec![0, columns],
            anchors_per_location: 1,
            grids: vec![AnchorGrid { size: GridSize { height: 1, width: columns }, stride_y: 10, stride_x: 10 }],
        }
    }

    fn rule(kind: MatcherKind) -> MatcherConfig {
        MatcherConfig { kind, ..MatcherConfig::default() }
    }

    #[test]
    fn crowds_hide_background_with_every_rule() {
        let (anchors, crowd) = (row(4), BBox::new(-5.0, -5.0, 20.0, 5.0));
        for kind in [MatcherKind::Iou, MatcherKind::Atss] {
            let matches = rule(kind).assign(&anchors, &[anchors.boxes[0]], &[crowd]);
            use Match::{Background, Ignore, Object};
            assert_eq!(matches, vec![Object(0), Ignore, Ignore, Background], "{kind:?}");
            let off = MatcherConfig { ignore_crowds: false, ..rule(kind) };
            assert_eq!(off.assign(&anchors, &[anchors.boxes[0]], &[crowd])[1], Background, "{kind:?}");
            assert_eq!(rule(kind).assign(&anchors, &[], &[]), vec![Background; 4], "{kind:?}");
        }
    }

    /// Four candidates with the IoUs 1, 0, 0 and 0 have the mean 0.25 and the deviation 0.5, so that the threshold is
    /// 0.75. An object between two anchors has the IoUs 36 / 184, 36 / 184, 0 and 0, with the mean 0.098, the deviation
    /// 0.113 and the threshold 0.211, which is above all of them.
    #[test]
    fn the_threshold_is_mean_plus_deviation_of_all_candidates() {
        let anchors = row(4);
        let atss = rule(MatcherKind::Atss);
        let positives = |object: BBox| {
            let matches = atss.assign(&anchors, &[object], &[]);
            (0..4).filter(|i| matches[*i] == Match::Object(0)).collect::<Vec<_>>()
        };
        assert_eq!(positives(anchors.boxes[2]), [2]);
        let around = BBox::new(-1.0, -1.0, 11.0, 9.0);
        assert!(positives(around).is_empty());
        // With the two nearest anchors alone, which have the same IoU, the deviation is 0.
        let two = MatcherConfig { candidates: 2, ..atss };
        assert_eq!(two.assign(&anchors, &[around], &[])[..2], [Match::Object(0); 2]);
        // Here, the centres of both lie on an edge of the object.
        assert_eq!(two.assign(&anchors, &[BBox::new(0.0, 0.0, 10.0, 10.0)], &[]), vec![Match::Background; 4]);
        // An edge that passes a centre at a distance of 0.01 pixels leaves it outside.
        let edge = BBox::new(-0.01, -1.0, 10.5, 9.0);
        assert_eq!(two.assign(&anchors, &[edge], &[])[0], Match::Background);
        // A single candidate is its own mean.
        let one = MatcherConfig { candidates: 1, ..atss };
        assert_eq!(one.assign(&anchors, &[around], &[])[..2], [Match::Object(0), Match::Background]);
    }

    #[test]
    fn an_anchor_of_two_objects_goes_to_the_highest_iou_and_then_to_the_first() {
        let anchors = row(5);
        let (same, smaller) = (anchors.boxes[2], BBox::new(16.0, -4.0, 24.0, 4.0));
        let of = |objects: &[BBox]| rule(MatcherKind::Atss).assign(&anchors, objects, &[])[2];
        assert_eq!(of(&[smaller, same]), Match::Object(1));
        assert_eq!(of(&[same, smaller]), Match::Object(0));
        assert_eq!(of(&[same, same]), Match::Object(0));
    }

    #[test]
    fn objects_that_no_centre_lies_in_get_no_anchor() {
        let anchors = row(3);
        let atss = rule(MatcherKind::Atss);
        let lost = [
            BBox::new(3.0, -3.0, 7.0, 3.0),
            BBox::new(100.0, 0.0, 110.0, 10.0),
            BBox::new(5.0, 5.0, 5.0, 5.0),
            BBox::new(f32::NAN, 0.0, 1.0, 1.0),
            BBox::new(-f32::MAX, -f32::MAX, f32::MAX, f32::MAX),
        ];
        for object in lost {
            assert_eq!(atss.assign(&anchors, &[object], &[]), vec![Match::Background; 3], "{object:?}");
        }
    }

    #[test]
    fn candidates_are_anchors_and_not_locations() {
        // Two anchors at each location, of which the second is a quarter as high.
        let single = row(3);
        let both = |b: &BBox| [*b, BBox::new(b.x1, b.y1 / 4.0, b.x2, b.y2 / 4.0)];
        let anchors = Anchors {
            boxes: single.boxes.iter().flat_map(both).collect(),
            level_offsets: vec![0, 6],
            anchors_per_location: 2,
            ..single
        };
        let flat = anchors.boxes[3];
        let of = |candidates| {
            MatcherConfig { candidates, ..rule(MatcherKind::Atss) }.assign(&anchors, &[flat], &[])[2..4].to_vec()
        };
        // The first anchor of the location is the only candidate; then both are, whose threshold is above both of their
        // IoUs, 0.25 and 1; then one of another location, with an IoU of 0, and in the end all six.
        assert_eq!(of(1), [Match::Object(0), Match::Background]);
        assert_eq!(of(2), [Match::Background; 2]);
        assert_eq!(of(3), [Match::Background, Match::Object(0)]);
        assert_eq!(of(1000), [Match::Background, Match::Object(0)]);
    }
}
