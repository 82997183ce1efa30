//! The objective of the fit: how well the best anchor over the grid overlaps each object.

use std::rc::Rc;

use foveal_boxes::{BBox, iou};

use super::{FitObject, FitScore};
use crate::{AnchorConfig, LEVELS, grid_sizes};

/// The objects that anchors are fitted to, each with the anchor centres that matter for it.
pub(super) struct Objective {
    objects: Vec<Located>,
    iou: f32,
}

/// An object with the centre of each level's grid that is nearest to its own centre.
///
/// Of all anchors of one shape and level, one at this centre has the highest IoU: the intersection is the product of a
/// width that depends only on the column and a height that depends only on the row, and both become no larger with the
/// distance of the centres along their axis.
struct Located {
    bbox: BBox,
    centers: [[f32; 2]; LEVELS],
}

/// The highest IoU of an object with any anchor, and the level of that anchor.
#[derive(Clone, Copy)]
pub(super) struct Best {
    /// The highest IoU; 0 if no anchor overlaps the object.
    pub(super) iou: f32,
    /// Index of the level (0 is P3); `None` if no anchor overlaps the object.
    pub(super) level: Option<usize>,
}

/// The score of an anchor configuration, with the parts that stay the same while other values are changed.
#[derive(Clone)]
pub(super) struct Scored {
    /// The configuration.
    pub(super) config: AnchorConfig,
    /// Its score.
    pub(super) score: FitScore,
    /// The highest IoU of each object with the anchors of one level and one ratio: `[levels * ratios][objects]`, the
    /// ratios being the inner dimension.
    columns: Vec<Rc<[f32]>>,
}

impl Objective {
    /// Finds the centres for all objects. `rounding` is the configuration whose [`AnchorConfig::rounding`] decides
    /// where they are; its other values do not matter.
    pub(super) fn new(objects: &[FitObject], rounding: &AnchorConfig, iou: f32) -> Self {
        let located = |FitObject { bbox, padded: [height, width] }: &FitObject| {
            let grids = rounding.center_grids(*height, *width, &grid_sizes(*height, *width));
            let middle = [f32::midpoint(bbox.x1, bbox.x2), f32::midpoint(bbox.y1, bbox.y2)];
            Located { bbox: *bbox, centers: std::array::from_fn(|level| grids[level].nearest_center(middle)) }
        };
        Self { objects: objects.iter().map(located).collect(), iou }
    }

    /// The widths and heights of the objects in pixels, without degenerate objects.
    pub(super) fn shapes(&self) -> impl Iterator<Item = [f64; 2]> + '_ {
        let objects = self.objects.iter().map(|object| &object.bbox).filter(|bbox| !bbox.is_degenerate());
        objects.map(|bbox| [f64::from(bbox.width()), f64::from(bbox.height())])
    }

    /// The best anchor of each object: `[objects]`.
    pub(super) fn best(&self, config: &AnchorConfig) -> Vec<Best> {
        let levels: [Vec<BBox>; LEVELS] = std::array::from_fn(|level| config.base_anchors(level));
        let best = |object: &Located| {
            let better = |best: Best, (level, anchors): (usize, &Vec<BBox>)| {
                let iou = object.best_iou(level, anchors);
                if iou > best.iou { Best { iou, level: Some(level) } } else { best }
            };
            levels.iter().enumerate().fold(Best { iou: 0.0, level: None }, better)
        };
        self.objects.iter().map(best).collect()
    }

    /// The score of a configuration.
    pub(super) fn score(&self, config: &AnchorConfig) -> FitScore {
        FitScore::of_ious(self.best(config).iter().map(|best| best.iou), self.iou)
    }

    /// Scores a configuration. The parts that it has in common with `other` are taken from there.
    pub(super) fn scored(&self, config: AnchorConfig, other: Option<&Scored>) -> Scored {
        let ratios = config.ratios.len();
        let other = other.filter(|o| o.config.scales == config.scales && o.config.ratios.len() == ratios);
        let mut columns = Vec::with_capacity(LEVELS * ratios);
        for level in 0..LEVELS {
            let anchors = config.base_anchors(level);
            for (ratio, of_ratio) in anchors.chunks(config.scales).enumerate() {
                let same = other.filter(|o| {
                    o.config.base_sizes[level] == config.base_sizes[level]
                        && o.config.ratios[ratio] == config.ratios[ratio]
                });
                let column = same.map(|o| Rc::clone(&o.columns[level * ratios + ratio]));
                columns
                    .push(column.unwrap_or_else(|| self.objects.iter().map(|o| o.best_iou(level, of_ratio)).collect()));
            }
        }
        let mut best = vec![0.0f32; self.objects.len()];
        for column in &columns {
            best.iter_mut().zip(column.iter()).for_each(|(best, iou)| *best = best.max(*iou));
        }
        Scored { score: FitScore::of_ious(best, self.iou), config, columns }
    }
}

impl Located {
    /// The highest IoU of the object with anchors of a level, which are centred on the origin. The boxes are computed
    /// as those of [`AnchorConfig::anchors`].
    fn best_iou(&self, level: usize, anchors: &[BBox]) -> f32 {
        let [dx, dy] = self.centers[level];
        let moved = |c: &BBox| BBox::new(c.x1 + dx, c.y1 + dy, c.x2 + dx, c.y2 + dy);
        anchors.iter().map(|anchor| iou(&self.bbox, &moved(anchor))).fold(0.0, f32::max)
    }
}
