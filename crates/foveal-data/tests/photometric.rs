//! The transforms of colour and sharpness in the loading pipeline.

use std::sync::Arc;

use foveal_anchors::{AnchorConfig, MatcherConfig};
use foveal_data::{AugmentConfig, Batch, DataConfig, LoaderOptions, ShapesConfig, Source, loader};
use serde_json::{Value, json};

/// The configuration with a list of transforms and no other augmentation.
fn config(transforms: Value) -> DataConfig {
    DataConfig {
        source: Source::Shapes,
        shapes: ShapesConfig { count: 4, size: [64, 96], ..ShapesConfig::default() },
        min_size: 64,
        max_size: 96,
        workers: 1,
        augment: AugmentConfig { transforms: serde_json::from_value(transforms).unwrap(), ..AugmentConfig::off() },
        ..DataConfig::default()
    }
}

/// The four images of the training set in one batch.
fn batch(transforms: Value, seed: u64) -> Batch {
    let config = config(transforms);
    config.validate().unwrap();
    let options = LoaderOptions {
        batch_size: 4,
        seed,
        training: true,
        anchors: AnchorConfig::default(),
        matcher: MatcherConfig::default(),
        first: 0,
        epochs: None,
    };
    let data = Arc::new(config.open_train().unwrap().dataset);
    loader(data, &config, options, 0).next().unwrap().unwrap()
}

#[test]
fn pixels_change_and_objects_stay() {
    let plain = batch(json!([]), 3);
    assert!(plain.transform_times.is_empty() && plain.placed.iter().any(|placed| !placed.boxes.is_empty()));
    for kind in ["hsv", "gamma", "blur", "noise", "jpeg", "grey"] {
        let always = json!([{"kind": kind, "probability": 1.0}]);
        let changed = batch(always.clone(), 3);
        assert_ne!(changed.images, plain.images, "{kind}");
        assert_eq!((&changed.placed, &changed.targets, &changed.info), (&plain.placed, &plain.targets, &plain.info));
        let times = &changed.transform_times;
        assert!(times.len() == 4 && times.iter().all(|time| time.position == 0 && time.seconds > 0.0), "{kind}");
        assert_eq!(batch(always, 3).images, changed.images, "{kind}");
        assert_eq!(batch(json!([{"kind": kind, "probability": 0.0}]), 3).images, plain.images, "{kind}");
    }
}

#[test]
fn settings_without_a_change_leave_the_batch_as_it_is() {
    let plain = batch(json!([]), 9);
    for settings in [
        json!({"kind": "hsv", "hue": 0, "saturation": 0, "value": 0}),
        json!({"kind": "gamma", "gamma": [1, 1]}),
        json!({"kind": "blur", "sigma": [0, 0]}),
        json!({"kind": "noise", "std": [0, 0]}),
    ] {
        let mut settings = settings;
        settings["probability"] = json!(1);
        assert_eq!(batch(json!([settings]), 9).images, plain.images, "{settings}");
    }
}

#[test]
fn erased_objects_become_ignored_regions() {
    let plain = batch(json!([]), 1);
    let all = json!([{"kind": "erasing", "probability": 1, "area": [1, 1], "aspect": [1.5, 1.5], "fill": "mean"}]);
    let erased = batch(all, 1);
    for (before, after) in plain.placed.iter().zip(&erased.placed) {
        assert!(after.boxes.is_empty() && after.classes.is_empty());
        assert_eq!(before.boxes, after.crowds);
    }
    assert!(erased.targets.iter().all(|targets| targets.positives.is_empty()));
    // ImageNet's mean colour is 0 after normalisation, up to the rounding to bytes.
    assert!(erased.images.into_normalised().data.iter().all(|v| v.abs() < 0.01));
}

#[test]
fn wrong_settings_name_their_key_and_place() {
    for (settings, key, expected) in [
        (json!({"kind": "hsv", "hue": 0.6}), "hue", "from 0 to 0.5"),
        (json!({"kind": "hsv", "value": -0.1}), "value", "from 0 to 1"),
        (json!({"kind": "gamma", "gamma": [0, 1]}), "gamma", "0.1 <= low <= high <= 10"),
        (json!({"kind": "blur", "sigma": [2, 1]}), "sigma", "0 <= low <= high <= 32"),
        (json!({"kind": "noise", "std": [0, 200]}), "std", "0 <= low <= high <= 128"),
        (json!({"kind": "jpeg", "quality": [0, 50]}), "quality", "1 <= low <= high <= 100"),
        (json!({"kind": "grey", "probability": 1.5}), "probability", "from 0 to 1"),
        (json!({"kind": "erasing", "count": [0, 1]}), "count", "1 <= low <= high <= 64"),
        (json!({"kind": "erasing", "area": [0.5, 1.5]}), "area", "low <= high <= 1"),
        (json!({"kind": "erasing", "aspect": [0.001, 1]}), "aspect", "0.01 <= low <= high <= 100"),
    ] {
        let error = config(json!([{"kind": "grey"}, settings])).validate().unwrap_err();
        assert_eq!(error.key, format!("augment.transforms[1].{key}"));
        assert!(error.to_string().contains(expected), "{error}");
    }
    for wrong in
        [json!({"kind": "blur", "radius": 2}), json!({"kind": "erasing", "fill": "black"}), json!({"kind": "x"})]
    {
        assert!(serde_json::from_value::<AugmentConfig>(json!({"transforms": [wrong]})).is_err(), "{wrong}");
    }
}
