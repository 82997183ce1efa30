//! Clean sets: the generated set with several seeds and settings, in memory and in files.

use foveal_data::{DataConfig, ShapesConfig, Source, write_shapes};

use crate::place::{Found, Place, check};

fn assert_clean(found: &Found, what: &str) {
    for report in &found.reports {
        assert!(report.findings.is_empty(), "{what}: {report}");
        assert!(report.images > 0 && report.to_string().contains("no defects found"), "{what}: {report}");
    }
    assert!(found.cases.is_empty(), "{what}: {:?}", found.cases);
}

#[test]
fn the_set_that_faults_are_planted_in_is_clean() {
    let place = Place::new();
    assert_clean(&place.check().unwrap(), "files");
    assert_clean(&place.check_unread().unwrap(), "annotations");
}

#[test]
fn generated_sets_of_any_seed_are_clean() {
    for seed in 0..20 {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes = ShapesConfig { seed, ..ShapesConfig::default() };
        let train = config.inspect_train().unwrap();
        let val = config.inspect_val(Some(train.dataset.label_map())).unwrap();
        assert_clean(&check(vec![train, val], true).unwrap(), &format!("seed {seed}"));
    }
}

#[test]
fn generated_images_in_files_are_no_copies_of_each_other() {
    for (seed, texture, size) in [(1, 0.5, [96, 128]), (2, 0.0, [192, 192]), (3, 1.0, [64, 64]), (4, 0.2, [128, 96])] {
        let dir = tempfile::tempdir().unwrap();
        let shapes =
            ShapesConfig { seed, texture, size, count: 150, val_count: 60, classes: 3, ..ShapesConfig::default() };
        write_shapes(&shapes, dir.path()).unwrap();
        let set = |name: &str| foveal_data::SetConfig {
            annotations: Some(dir.path().join(format!("annotations/{name}.json"))),
            images: Some(dir.path().join("images").join(name)),
        };
        let config = DataConfig { train: set("train"), val: set("val"), ..DataConfig::default() };
        let train = config.inspect_train().unwrap();
        let val = config.inspect_val(Some(train.dataset.label_map())).unwrap();
        assert_clean(&check(vec![train, val], true).unwrap(), &format!("seed {seed}"));
    }
}
