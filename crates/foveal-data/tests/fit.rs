//! Anchors fitted to a real data set, against the coverage by all anchors.

use std::path::PathBuf;

use foveal_anchors::{AnchorConfig, FitOptions, MatcherConfig};
use foveal_data::{DataConfig, SetConfig, SetCoverage, SetFitOptions, fit_set};

/// Raises the share of covered cells of BCCD at the size of `configs/bccd.toml`, with nine anchors per location and
/// with the one of that configuration. FOVEAL_SHARED names the folder that contains `data/`.
#[test]
#[ignore = "needs data outside the repository"]
fn more_blood_cells_are_covered() {
    let root = PathBuf::from(std::env::var("FOVEAL_SHARED").expect("FOVEAL_SHARED names a folder")).join("data/bccd");
    let train = SetConfig { annotations: Some(root.join("annotations/train.json")), images: Some(root.join("images")) };
    let data = DataConfig { train, min_size: 320, max_size: 427, ..DataConfig::default() };
    let dataset = data.open_train().unwrap().dataset;
    let anchors =
        FitOptions { sizes: true, ratios: true, scales: true, scale_count: None, ratio_count: None, iou: 0.5 };
    let options = SetFitOptions { anchors, max_pixels: None, seed: 0 };
    let one = AnchorConfig { scales: 1, ratios: vec![1.0], ..AnchorConfig::default() };
    for present in [AnchorConfig::default(), one] {
        let found = fit_set(&dataset, &data, &present, &options);
        let coverage = |anchors| SetCoverage::new(&dataset, &data, anchors, &MatcherConfig::default()).all;
        let (before, after) = (coverage(&present), coverage(&found.fit.anchors));
        println!("{before:?}\n{after:?}\n{:?}, {} tried", found.fit.anchors, found.fit.tried);
        assert_eq!((before.covered, after.covered), (found.before.covered, found.after.covered));
        assert!(after.covered > before.covered, "{found:?}");
        assert_eq!(found.fit.anchors.anchors_per_location(), present.anchors_per_location());
    }
}
