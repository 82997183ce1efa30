//! Metrics of parts of a data set: by the size of objects and by the number of objects in an image.

use serde::Serialize;

use crate::SizeBand;
use crate::resample::{ClassValues, Matched, mean};

/// Limits of the numbers of objects in an image: the smallest and the largest number of each group. The last group is
/// open.
const OBJECTS: [(usize, usize); 6] = [(1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, usize::MAX)];

/// The metrics of the objects in one range of sizes. The metrics are `None` (`null`) without objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeRow {
    /// The range.
    #[serde(flatten)]
    pub band: SizeBand,
    /// Number of objects in the range, without crowd regions.
    pub objects: usize,
    /// Average precision, the mean over the IoU thresholds and the categories.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// Average precision at an IoU threshold of 0.50, the mean over the categories.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// Average recall with at most 100 detections per image and category, the mean over IoU thresholds and categories.
    #[serde(rename = "AR")]
    pub ar: Option<f64>,
}

/// The metrics of the images with a certain number of objects. The metrics are `None` (`null`) without such images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageRow {
    /// Smallest number of objects in an image, without crowd regions.
    pub min_objects: usize,
    /// Largest number of objects in an image; `None` (`null`) if there is no limit.
    pub max_objects: Option<usize>,
    /// Number of images.
    pub images: usize,
    /// Average precision, the mean over the IoU thresholds and the categories.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// Average precision at an IoU threshold of 0.50, the mean over the categories.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// Average recall with at most 100 detections per image and category, the mean over IoU thresholds and categories.
    #[serde(rename = "AR")]
    pub ar: Option<f64>,
}

/// The rows of the size bands with which `matched` was made. `values` are its values, in which all sizes come first.
pub(crate) fn sizes(bands: &[SizeBand], matched: &Matched, values: &[Vec<Option<ClassValues>>]) -> Vec<SizeRow> {
    let row = |(index, band): (usize, &SizeBand)| {
        let each = &values[index + 1];
        SizeRow {
            band: band.clone(),
            objects: matched.object_count(index + 1),
            ap: mean(each, |c| c.ap),
            ap50: mean(each, |c| c.ap50),
            ar: mean(each, |c| c.ar[2]),
        }
    };
    bands.iter().enumerate().map(row).collect()
}

/// The rows of groups of images by their number of objects.
pub(crate) fn images(matched: &Matched) -> Vec<ImageRow> {
    let row = |&(low, high): &(usize, usize)| {
        let counts: Vec<u32> = matched.objects().iter().map(|n| u32::from((low..=high).contains(n))).collect();
        let metrics = matched.metrics(&counts);
        ImageRow {
            min_objects: low,
            max_objects: (high < usize::MAX).then_some(high),
            images: counts.iter().sum::<u32>() as usize,
            ap: metrics.ap,
            ap50: metrics.ap50,
            ar: metrics.ar100,
        }
    };
    OBJECTS.iter().map(row).collect()
}
