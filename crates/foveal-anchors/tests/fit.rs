//! The fit of anchors against its definition: the highest IoU over all anchors of an image.

use foveal_anchors::{
    AnchorConfig, FitObject, FitOptions, FitScore, MatcherConfig, Rounding, coverage, fit, grid_sizes,
};
use foveal_boxes::{BBox, iou};
use proptest::prelude::*;

/// Difference of two IoUs by rounding: the edges of anchors, up to 1024 pixels, are rounded to 6e-5 pixels, and boxes
/// have sides of at least 4 pixels.
const TOLERANCE: f64 = 1e-4;

/// Objects in images of several sizes, partly small and partly beyond the edges.
fn object() -> impl Strategy<Value = FitObject> {
    let sizes = prop::sample::select(vec![[32usize, 64], [96, 160], [320, 224], [416, 416]]);
    (sizes, 0.0f32..1.0, 0.0f32..1.0, 4.0f32..160.0, 4.0f32..160.0).prop_map(|(padded, x, y, width, height)| {
        let (x, y) = (x * padded[1] as f32, y * padded[0] as f32);
        FitObject { bbox: BBox::new(x, y, x + width, y + height), padded }
    })
}

fn anchors() -> impl Strategy<Value = AnchorConfig> {
    let sizes = prop::collection::vec(2.0f32..300.0, 5);
    let ratios = prop::collection::vec(0.2f32..5.0, 1..4);
    (sizes, 1usize..4, ratios, any::<bool>()).prop_map(|(base_sizes, scales, ratios, exact)| {
        let rounding = if exact { Rounding::Exact } else { Rounding::Torchvision };
        AnchorConfig { base_sizes, scales, ratios, rounding }
    })
}

/// The highest IoU of each object with all anchors over its image. The coverage has to agree.
fn enumerated(objects: &[FitObject], config: &AnchorConfig) -> Vec<f32> {
    let best = |FitObject { bbox, padded: [height, width] }: &FitObject| {
        let anchors = config.anchors(*height, *width, &grid_sizes(*height, *width));
        let best = anchors.boxes.iter().map(|anchor| iou(bbox, anchor)).fold(0.0, f32::max);
        assert_eq!(coverage(&anchors, &[*bbox], &MatcherConfig::default()).objects[0].best_iou, best);
        best
    };
    objects.iter().map(best).collect()
}

proptest! {
    #[test]
    fn the_score_is_that_of_all_anchors(objects in prop::collection::vec(object(), 1..12), config in anchors()) {
        for object in &objects {
            let found = FitScore::of(&[*object], &config, 0.5).mean_best_iou;
            let wanted = f64::from(enumerated(&[*object], &config)[0]);
            prop_assert!((found - wanted).abs() < TOLERANCE, "{found} {wanted} {object:?} {config:?}");
        }
        let all = enumerated(&objects, &config);
        let score = FitScore::of(&objects, &config, 0.5);
        // Objects so near to the threshold that rounding decides are counted either way.
        let covered = |iou: f32| all.iter().filter(|best| **best >= iou).count();
        let near = TOLERANCE as f32;
        prop_assert!((covered(0.5 + near)..=covered(0.5 - near)).contains(&score.covered));
        prop_assert_eq!(score.objects, objects.len());
    }

    #[test]
    fn a_fit_is_never_worse(
        objects in prop::collection::vec(object(), 0..30),
        present in anchors(),
        [sizes, ratios, scales] in any::<[bool; 3]>(),
        sampled in 0usize..30,
        iou in 0.3f32..0.8,
    ) {
        let options = FitOptions { sizes, ratios, scales, scale_count: None, ratio_count: None, iou };
        let sample = &objects[..sampled.min(objects.len())];
        let found = fit(&objects, sample, &present, &options);
        prop_assert!(found.anchors.validate().is_ok());
        prop_assert_eq!(found.anchors.anchors_per_location(), present.anchors_per_location());
        prop_assert_eq!(found.before, FitScore::of(&objects, &present, iou));
        prop_assert_eq!(found.after, FitScore::of(&objects, &found.anchors, iou));
        prop_assert!(found.anchors == present || found.after.is_gain_over(&found.before), "{found:?}");
        prop_assert!(!found.before.is_better_than(&found.after), "{found:?}");
        // The same arguments give the same result.
        prop_assert_eq!(fit(&objects, sample, &present, &options), found);
    }
}
