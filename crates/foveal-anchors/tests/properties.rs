//! The matcher against its definition, computed over the whole matrix of IoUs.

use foveal_anchors::{AnchorConfig, Match, MatcherConfig, grid_sizes};
use foveal_boxes::{BBox, iou_matrix};
use proptest::prelude::*;

/// torchvision's `Matcher` step by step, except that objects that no anchor overlaps get none.
fn oracle(config: &MatcherConfig, anchors: &[BBox], objects: &[BBox]) -> Vec<Match> {
    let quality = iou_matrix(objects, anchors);
    let at = |object: usize, anchor: usize| quality[object * anchors.len() + anchor];
    let best: Vec<usize> = (0..anchors.len())
        .map(|a| (0..objects.len()).fold(0, |best, o| if at(o, a) > at(best, a) { o } else { best }))
        .collect();
    (0..anchors.len())
        .map(|a| {
            if objects.is_empty() {
                return Match::Background;
            }
            let nearest = config.low_quality
                && (0..objects.len()).any(|o| {
                    let highest = (0..anchors.len()).map(|a| at(o, a)).fold(0.0, f32::max);
                    highest > 0.0 && at(o, a) == highest
                });
            match at(best[a], a) {
                v if nearest || v >= config.positive_iou => Match::Object(best[a] as u32),
                v if v < config.negative_iou => Match::Background,
                _ => Match::Ignore,
            }
        })
        .collect()
}

/// Boxes on a coarse raster, so that equal IoUs are common.
fn object() -> impl Strategy<Value = BBox> {
    (0u8..24, 0u8..24, 1u8..16, 1u8..16).prop_map(|(x, y, w, h)| {
        let f = |v: u8| f32::from(v) * 4.0;
        BBox::new(f(x), f(y), f(x + w), f(y + h))
    })
}

proptest! {
    #[test]
    fn assignment_follows_its_definition(objects in prop::collection::vec(object(), 0..6), low_quality: bool) {
        let anchors = AnchorConfig::default().anchors(64, 96, &grid_sizes(64, 96));
        let config = MatcherConfig { low_quality, ..MatcherConfig::default() };
        prop_assert_eq!(config.assign(&anchors, &objects, &[]), oracle(&config, &anchors.boxes, &objects));
    }

    #[test]
    fn every_object_that_is_touched_alone_gets_an_anchor(object in object()) {
        let anchors = AnchorConfig::default().anchors(128, 128, &grid_sizes(128, 128));
        let matches = MatcherConfig::default().assign(&anchors, &[object], &[]);
        prop_assert!(matches.contains(&Match::Object(0)));
    }

    #[test]
    fn anchor_count_follows_the_grids(height in 1usize..20, width in 1usize..20) {
        let (height, width) = (height * 32, width * 32);
        let grids = grid_sizes(height, width);
        let anchors = AnchorConfig::default().anchors(height, width, &grids);
        let positions: usize = grids.iter().map(|g| g.positions()).sum();
        prop_assert_eq!(anchors.boxes.len(), positions * anchors.anchors_per_location);
        prop_assert!(anchors.boxes.iter().all(|b| !b.is_degenerate()));
    }
}
