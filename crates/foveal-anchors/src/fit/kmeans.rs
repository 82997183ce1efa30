//! k-means of box shapes with the distance 1 - IoU, from which the search for anchors starts.

/// Most rounds of k-means. It ends before when no shape changes its cluster, which takes a few tens of rounds.
const MAX_ROUNDS: usize = 100;

/// A width and a height in pixels.
pub(super) type Shape = [f64; 2];

/// Clusters the shapes into `count` clusters and returns their mean widths and heights, in ascending order of `key`.
///
/// The distance of two shapes is 1 minus the IoU of boxes of these shapes with the same centre (Redmon and Farhadi,
/// arXiv 1612.08242, section 2). The first centres are quantiles of the shapes in the order of `key`, so that the
/// result is a function of the shapes alone. A cluster that no shape is nearest to keeps its centre. Without shapes,
/// the result is empty.
pub(super) fn k_means(shapes: &[Shape], count: usize, key: impl Fn(&Shape) -> f64) -> Vec<Shape> {
    if shapes.is_empty() {
        return Vec::new();
    }
    let by_key = |a: &Shape, b: &Shape| key(a).total_cmp(&key(b));
    let mut sorted = shapes.to_vec();
    sorted.sort_by(by_key);
    let quantile = |i: usize| sorted[(2 * i + 1) * sorted.len() / (2 * count)];
    let mut centers: Vec<Shape> = (0..count).map(quantile).collect();
    let mut clusters: Vec<usize> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let nearest: Vec<usize> = shapes.iter().map(|shape| nearest(&centers, shape)).collect();
        if nearest == clusters {
            break;
        }
        clusters = nearest;
        let mut sums = vec![([0.0, 0.0], 0.0); count];
        for ([width, height], cluster) in shapes.iter().zip(&clusters) {
            let ([x, y], members) = &mut sums[*cluster];
            *x += width;
            *y += height;
            *members += 1.0;
        }
        for (center, ([x, y], members)) in centers.iter_mut().zip(sums) {
            if members > 0.0 {
                *center = [x / members, y / members];
            }
        }
    }
    centers.sort_by(by_key);
    centers
}

/// The index of the centre with the highest IoU with a shape, the first of several.
fn nearest(centers: &[Shape], shape: &Shape) -> usize {
    let better = |best: (usize, f64), (index, center): (usize, &Shape)| {
        let iou = shape_iou(center, shape);
        if iou > best.1 { (index, iou) } else { best }
    };
    centers.iter().enumerate().fold((0, 0.0), better).0
}

/// The IoU of two boxes of these shapes with the same centre.
fn shape_iou(a: &Shape, b: &Shape) -> f64 {
    let intersection = a[0].min(b[0]) * a[1].min(b[1]);
    intersection / (a[0] * a[1] + b[0] * b[1] - intersection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(shape: &Shape) -> f64 {
        shape[0] * shape[1]
    }

    #[test]
    fn the_centres_are_the_means_of_the_clusters() {
        // Three clusters with the means 10 x 10, 60 x 20 and 100 x 100, in mixed order.
        let shapes =
            [[99.0, 101.0], [9.0, 10.0], [62.0, 20.0], [11.0, 10.0], [101.0, 99.0], [58.0, 20.0], [100.0, 100.0]];
        assert_eq!(k_means(&shapes, 3, area), [[10.0, 10.0], [60.0, 20.0], [100.0, 100.0]]);
        // One cluster has the mean of all: widths 440 / 7, heights 360 / 7.
        assert_eq!(k_means(&shapes, 1, area), [[440.0 / 7.0, 360.0 / 7.0]]);
    }

    #[test]
    fn the_distance_is_relative_to_the_size() {
        assert!((shape_iou(&[22.0, 22.0], &[40.0, 40.0]) - 0.3025).abs() < 1e-12);
        assert!((shape_iou(&[10.0, 40.0], &[40.0, 10.0]) - 100.0 / 700.0).abs() < 1e-12);
        // Both pairs have the IoU 1/4.
        assert_eq!(shape_iou(&[1.0, 1.0], &[2.0, 2.0]), shape_iou(&[30.0, 30.0], &[60.0, 60.0]));
        // By the difference of the sides, a side of 45 is nearer to 20; by IoU (0.20 and 0.25), it is nearer to 90.
        assert_eq!(nearest(&[[20.0, 20.0], [90.0, 90.0]], &[45.0, 45.0]), 1);
    }

    #[test]
    fn few_shapes_fill_all_clusters() {
        assert!(k_means(&[], 5, area).is_empty());
        assert_eq!(k_means(&[[4.0, 8.0]], 3, area), [[4.0, 8.0]; 3]);
    }
}
