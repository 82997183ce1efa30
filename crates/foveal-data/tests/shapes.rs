//! The generated data set has the documented frequencies, sizes and overlaps, and each image is independent of the
//! others.

use foveal_data::shapes::{Scene, Split};
use foveal_data::{DataConfig, ShapesConfig, Source, Stats};

fn config() -> DataConfig {
    DataConfig { source: Source::Shapes, ..DataConfig::default() }
}

#[test]
fn the_default_set_is_long_tailed_crowded_and_of_all_sizes() {
    let config = config();
    let (train, val) = (config.open_train().unwrap().dataset, config.open_val().unwrap().dataset);
    assert_eq!((train.len(), val.len()), (400, 100));
    let stats = Stats::of(&train);
    assert!(stats.classes.len() >= 5);
    let counts: Vec<usize> = stats.classes.iter().map(|c| c.objects).collect();
    assert!(counts.is_sorted_by(|a, b| a > b), "{counts:?}");
    let ratio = counts[0] as f32 / counts[counts.len() - 1] as f32;
    assert!((20.0..=26.0).contains(&ratio), "{counts:?}");
    assert_eq!(stats.objects_per_image[4], 12.0);
    let rarest = Stats::of(&val).classes.last().unwrap().objects;
    assert!(rarest >= 15, "{rarest}\n{}", Stats::of(&val));
    let mut overlaps = 0;
    let (mut smallest, mut largest) = (f32::INFINITY, 0.0f32);
    for record in train.records() {
        assert_eq!((record.width, record.height), (192, 192));
        for (i, a) in record.objects.iter().enumerate() {
            let side = a.bbox.width().max(a.bbox.height());
            (smallest, largest) = (smallest.min(side), largest.max(side));
            overlaps += record.objects[..i].iter().filter(|b| a.bbox.intersection(&b.bbox) > 0.0).count();
        }
    }
    assert!((12.0 - 1e-3..13.0).contains(&smallest) && (90.0..=96.0 + 1e-3).contains(&largest), "{smallest} {largest}");
    assert!(overlaps > 200, "{overlaps}");
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let config = ShapesConfig { count: 3, ..ShapesConfig::default() };
    let more = ShapesConfig { count: 300, ..config.clone() };
    assert_eq!(Scene::new(&config, Split::Train, 2), Scene::new(&more, Split::Train, 2));
    assert_eq!(Scene::new(&config, Split::Train, 2).render(), Scene::new(&more, Split::Train, 2).render());
    let other = ShapesConfig { seed: 1, ..config.clone() };
    assert_ne!(Scene::new(&config, Split::Train, 2).render(), Scene::new(&other, Split::Train, 2).render());
    assert_ne!(Scene::new(&config, Split::Train, 2).render(), Scene::new(&config, Split::Val, 2).render());
}

#[test]
fn boxes_fit_the_drawn_pixels() {
    // With one figure on the image, the pixels that differ from the background fill its box.
    let config = ShapesConfig { max_objects: 1, classes: 8, imbalance: 1.0, count: 30, ..ShapesConfig::default() };
    let mut seen = 0;
    for index in 0..30 {
        let scene = Scene::new(&config, Split::Train, index);
        let Some(figure) = scene.figures.first() else { continue };
        let mut bare = scene.clone();
        bare.figures.clear();
        let bare = bare.render();
        let drawn = scene.render();
        let changed: Vec<(f32, f32)> = drawn
            .enumerate_pixels()
            .filter(|(x, y, p)| bare.get_pixel(*x, *y) != *p)
            .map(|(x, y, _)| (x as f32, y as f32))
            .collect();
        let fold = |pick: fn(&(f32, f32)) -> f32| {
            let values = changed.iter().map(pick);
            (values.clone().fold(f32::INFINITY, f32::min), values.fold(0.0, f32::max) + 1.0)
        };
        let ((x1, x2), (y1, y2)) = (fold(|p| p.0), fold(|p| p.1));
        let b = figure.bbox;
        // Sharp tips cover too little of their last pixels to change them.
        for (want, got) in [(b.x1, x1), (b.y1, y1), (b.x2, x2), (b.y2, y2)] {
            assert!((want - got).abs() <= 2.0, "{:?} {index}: {want} {got}", figure.class);
        }
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let good = ShapesConfig::default();
    for bad in [
        ShapesConfig { count: 0, ..good.clone() },
        ShapesConfig { classes: 9, ..good.clone() },
        ShapesConfig { size: [0, 100], ..good.clone() },
        ShapesConfig { max_object: 0.01, ..good.clone() },
        ShapesConfig { imbalance: f32::NAN, ..good.clone() },
    ] {
        let error = DataConfig { shapes: bad, ..config() }.open_train().unwrap_err();
        assert!(error.to_string().contains("data.shapes."), "{error}");
    }
}
