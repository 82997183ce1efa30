//! Anchor coverage: how well a set of anchors overlaps a set of objects, and how many of them are trained to detect
//! each.

use foveal_boxes::{BBox, iou};
use serde::{Deserialize, Serialize};

use crate::matcher::tiles::{TILE, disjoint, tiles};
use crate::{Anchors, Match, MatcherConfig};

/// COCO's size range of an object by the area of its box: below 32x32 pixels, from there to below 96x96 pixels, and
/// from 96x96 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeBucket {
    /// Small objects, with an area below 32 * 32 square pixels.
    Small,
    /// Medium objects, with an area from 32 * 32 to below 96 * 96 square pixels.
    Medium,
    /// Large objects, with an area of at least 96 * 96 square pixels.
    Large,
}

impl SizeBucket {
    /// All size ranges, smallest first.
    pub const ALL: [SizeBucket; 3] = [SizeBucket::Small, SizeBucket::Medium, SizeBucket::Large];

    /// The size range of an object whose box has the given area in square pixels.
    pub fn of(area: f32) -> Self {
        if area < 32.0 * 32.0 {
            SizeBucket::Small
        } else if area < 96.0 * 96.0 {
            SizeBucket::Medium
        } else {
            SizeBucket::Large
        }
    }
}

/// Coverage of one object by the anchors of its image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectCoverage {
    /// Box of the object in pixels of the padded image.
    pub object: BBox,
    /// Highest IoU of any anchor with the object, from 0 to 1; 0 if no anchor overlaps it.
    pub best_iou: f32,
    /// Index of the anchor with the highest IoU, the first one if there are several; `None` if no anchor overlaps the
    /// object.
    pub best_anchor: Option<usize>,
    /// Number of anchors with an IoU of at least [`POSITIVE_IOU`] with the object.
    pub positives: usize,
    /// Number of anchors that the matcher assigns to the object, so that they are trained to detect it.
    pub matched: usize,
}

/// Coverage of the objects of one image or, after [`Coverage::merge`], of several images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// The coverage of each object, in the order in which the objects were given.
    pub objects: Vec<ObjectCoverage>,
}

/// Summary of the coverage of a group of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoverageSummary {
    /// Number of objects in the group.
    pub objects: usize,
    /// Number of objects that have an anchor with an IoU of at least [`POSITIVE_IOU`].
    pub covered: usize,
    /// Number of objects that no anchor overlaps.
    pub untouched: usize,
    /// Mean over the objects of the highest IoU of any anchor, from 0 to 1; 0 if there are no objects.
    pub mean_best_iou: f32,
    /// Mean number per object of anchors with an IoU of at least [`POSITIVE_IOU`]; 0 if there are no objects.
    pub mean_positives: f32,
    /// Mean number per object of anchors that the matcher assigns to it; 0 if there are no objects.
    pub mean_matched: f32,
    /// Number of objects to which the matcher assigns no anchor, so that none is trained to detect them.
    pub without_anchor: usize,
}

/// The IoU from which an anchor counts as overlapping an object well: the threshold of positives of Lin et al., arXiv
/// 1708.02002, section 4.
pub const POSITIVE_IOU: f32 = 0.5;

/// Measures how well the anchors of one image cover its objects, and counts the anchors that `matcher` assigns to each.
/// All boxes are in pixels of the padded image. Each object is compared with the anchors of the tiles that it overlaps.
pub fn coverage(anchors: &Anchors, objects: &[BBox], matcher: &MatcherConfig) -> Coverage {
    let mut matched = vec![0; objects.len()];
    // Crowd regions change no anchor that is assigned to an object.
    for object in matcher.assign(anchors, objects, &[]) {
        if let Match::Object(object) = object {
            matched[object as usize] += 1;
        }
    }
    let tiles = tiles(&anchors.boxes);
    let of = |(object, matched): (&BBox, usize)| {
        let mut found = ObjectCoverage { object: *object, best_iou: 0.0, best_anchor: None, positives: 0, matched };
        // Anchors that do not overlap the object change nothing. Most tiles have no others.
        let tiles = anchors.boxes.chunks(TILE).zip(&tiles).enumerate();
        for (tile, (anchors, _)) in tiles.filter(|(_, (_, tile))| !disjoint(&tile.hull, object)) {
            for (i, anchor) in anchors.iter().enumerate() {
                let iou = iou(object, anchor);
                if iou > found.best_iou {
                    (found.best_iou, found.best_anchor) = (iou, Some(tile * TILE + i));
                }
                found.positives += usize::from(iou >= POSITIVE_IOU);
            }
        }
        found
    };
    Coverage { objects: objects.iter().zip(matched).map(of).collect() }
}

impl Coverage {
    /// Appends the coverage of the objects of another image.
    pub fn merge(&mut self, other: Coverage) {
        self.objects.extend(other.objects);
    }

    /// Summarises the coverage of all objects.
    pub fn summary(&self) -> CoverageSummary {
        summarise(self.objects.iter())
    }

    /// Summarises the coverage of the objects in one size range, by the area of their boxes in the resized image.
    pub fn bucket(&self, bucket: SizeBucket) -> CoverageSummary {
        summarise(self.objects.iter().filter(|o| SizeBucket::of(o.object.area()) == bucket))
    }
}

fn summarise<'a>(objects: impl Iterator<Item = &'a ObjectCoverage>) -> CoverageSummary {
    let mut summary = CoverageSummary::default();
    let (mut iou, mut positives, mut matched) = (0.0f64, 0usize, 0usize);
    for object in objects {
        summary.objects += 1;
        summary.covered += usize::from(object.best_iou >= POSITIVE_IOU);
        summary.untouched += usize::from(object.best_iou == 0.0);
        iou += f64::from(object.best_iou);
        positives += object.positives;
        matched += object.matched;
        summary.without_anchor += usize::from(object.matched == 0);
    }
    let count = summary.objects.max(1) as f64;
    summary.mean_best_iou = (iou / count) as f32;
    summary.mean_positives = (positives as f64 / count) as f32;
    summary.mean_matched = (matched as f64 / count) as f32;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnchorConfig, MatcherKind, grid_sizes};

    #[test]
    fn small_objects_fall_below_the_smallest_anchor() {
        let anchors = AnchorConfig::default().anchors(256, 256, &grid_sizes(256, 256));
        let objects = [
            BBox::new(60.0, 60.0, 70.0, 70.0),     // 10 px: at best 100 / 1024
            BBox::new(48.0, 48.0, 80.0, 80.0),     // an anchor exactly
            BBox::new(64.0, 64.0, 192.0, 192.0),   // an anchor exactly
            BBox::new(900.0, 900.0, 950.0, 950.0), // outside
        ];
        let found = coverage(&anchors, &objects, &MatcherConfig::default());
        assert!((found.objects[0].best_iou - 100.0 / 1024.0).abs() < 1e-6);
        assert_eq!(found.objects[1].best_iou, 1.0);
        assert_eq!(found.objects[3].best_anchor, None);
        let small = found.bucket(SizeBucket::Small);
        assert_eq!((small.objects, small.covered), (1, 0));
        let medium = found.bucket(SizeBucket::Medium);
        assert_eq!((medium.objects, medium.covered, medium.untouched), (2, 1, 1));
        let all = found.summary();
        assert_eq!((all.objects, all.covered, all.untouched), (4, 2, 1));
    }

    #[test]
    fn the_anchors_of_every_rule_are_counted() {
        let anchors = AnchorConfig::default().anchors(256, 256, &grid_sizes(256, 256));
        let objects = [
            BBox::new(201.0, 201.0, 207.0, 207.0), // 6 px, between the centres of anchors
            BBox::new(48.0, 48.0, 80.0, 80.0),     // an anchor exactly
            BBox::new(900.0, 900.0, 950.0, 950.0), // outside
        ];
        let count = |matcher: MatcherConfig| {
            let found = coverage(&anchors, &objects, &matcher);
            (found.summary().without_anchor, found.objects.iter().map(|o| o.matched).collect::<Vec<_>>())
        };
        // The object of 6 pixels has anchors only as low-quality matches.
        let (without, matched) = count(MatcherConfig::default());
        let positives = coverage(&anchors, &objects, &MatcherConfig::default()).objects[1].positives;
        assert!(without == 1 && matched[0] > 0 && matched[1] == positives && matched[2] == 0, "{matched:?}");
        let (without, matched) = count(MatcherConfig { low_quality: false, ..MatcherConfig::default() });
        assert_eq!((without, matched), (2, vec![0, positives, 0]));
        let (without, matched) = count(MatcherConfig { kind: MatcherKind::Atss, ..MatcherConfig::default() });
        assert!(without == 2 && matched[0] == 0 && matched[1] > 0, "{matched:?}");
    }
}
