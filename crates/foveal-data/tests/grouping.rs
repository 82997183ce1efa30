//! Batches of images of like shape: which images they have, that they are a function of seed and epoch, and how much
//! padding they save.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use foveal_data::shapes::Split;
use foveal_data::{DataConfig, Dataset, Sampler, epoch_batches, epoch_order};
use foveal_image::padded_length;
use proptest::prelude::*;

/// Sizes in pixels that photos have, `[width, height]`.
const SIZES: [[u32; 2]; 12] = [
    [640, 480],
    [640, 427],
    [640, 480],
    [480, 640],
    [427, 640],
    [500, 375],
    [640, 360],
    [512, 512],
    [375, 500],
    [640, 480],
    [1280, 720],
    [800, 420],
];

/// A data set of images of these sizes. Every fifth image has an object of the second class, the others of the first.
fn with_sizes(sizes: &[[u32; 2]]) -> Dataset {
    let images = sizes.iter().enumerate().map(|(id, [width, height])| {
        serde_json::json!({"id": id, "file_name": format!("{id}.jpg"), "width": width, "height": height})
    });
    let annotations = (0..sizes.len()).map(|id| {
        let category = if id % 5 == 0 { 2 } else { 1 };
        let (image_id, bbox) = (id, [10, 10, 100, 50]);
        serde_json::json!({"id": id, "image_id": image_id, "category_id": category, "bbox": bbox, "area": 5000, "iscrowd": 0})
    });
    let set = serde_json::json!({
        "images": images.collect::<Vec<_>>(),
        "annotations": annotations.collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sizes.json");
    std::fs::write(&path, set.to_string()).unwrap();
    open(&path)
}

fn open(path: &Path) -> Dataset {
    DataConfig::default().open_annotations(path, Split::Train).unwrap().dataset
}

/// `count` images whose sizes take turns.
fn mixed(count: usize) -> Dataset {
    let sizes: Vec<[u32; 2]> = (0..count).map(|index| SIZES[index % SIZES.len()]).collect();
    with_sizes(&sizes)
}

fn config(group_by_aspect: bool) -> DataConfig {
    DataConfig { group_by_aspect, ..DataConfig::default() }
}

/// Pixels of the batches, padded as the loader pads them to the largest height and width of each, in several epochs.
fn padded_pixels(data: &Dataset, config: &DataConfig, batch_size: usize, epochs: u64) -> usize {
    let of_batch = |batch: Vec<usize>| {
        let sides = batch.iter().fold([0, 0], |[height, width], index| {
            let record = data.record(*index);
            let (w, h) = config.preprocess().target_size(record.width, record.height);
            [height.max(h as usize), width.max(w as usize)]
        });
        let [height, width] = sides.map(padded_length);
        batch.len() * height * width
    };
    (0..epochs).flat_map(|epoch| epoch_batches(data, config, batch_size, 3, epoch)).map(of_batch).sum()
}

/// The part of the padded pixels that grouping saves.
fn saved(data: &Dataset, batch_size: usize, epochs: u64) -> f64 {
    let of = |grouped| padded_pixels(data, &config(grouped), batch_size, epochs) as f64;
    1.0 - of(true) / of(false)
}

#[test]
fn grouping_saves_padding() {
    let data = mixed(1003);
    for (batch_size, least) in [(2, 0.10), (4, 0.20), (8, 0.27)] {
        let saved = saved(&data, batch_size, 5);
        assert!(saved >= least, "batch {batch_size}: {saved:.3}");
    }
    assert_eq!(saved(&data, 1, 2), 0.0);
}

/// The images of cocoapi's `instances_val2014_100.json`, of which the sizes alone are read. FOVEAL_SHARED names the
/// folder that contains `data/`.
#[test]
#[ignore = "needs data outside the repository"]
fn grouping_saves_padding_on_coco() {
    let shared = PathBuf::from(std::env::var("FOVEAL_SHARED").expect("FOVEAL_SHARED names a folder"));
    let data = open(&shared.join("data/cocoapi/instances_val2014_100.json"));
    for (batch_size, least) in [(2, 0.10), (4, 0.20), (8, 0.27), (16, 0.27)] {
        let saved = saved(&data, batch_size, 50);
        println!("batch {batch_size}: {:.1} % of the padded pixels are saved", 100.0 * saved);
        assert!(saved >= least, "batch {batch_size}: {saved:.3}");
    }
}

proptest! {
    /// The grouped batches have the images of the epoch, as often as before and in as many batches.
    #[test]
    fn every_image_is_used_as_often_as_without_grouping(
        images in 1usize..300,
        batch_size in 1usize..9,
        seed in 0u64..50,
        epoch in 0u64..20,
        repeated in any::<bool>(),
    ) {
        let data = mixed(images);
        let sampler = if repeated { Sampler::RepeatFactor } else { Sampler::Uniform };
        let plain = DataConfig { sampler, repeat_threshold: 0.5, ..config(false) };
        let order = epoch_order(&data, &plain, seed, epoch);
        let chunks: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        prop_assert_eq!(&epoch_batches(&data, &plain, batch_size, seed, epoch), &chunks);
        let grouping = DataConfig { group_by_aspect: true, ..plain };
        let grouped = epoch_batches(&data, &grouping, batch_size, seed, epoch);
        prop_assert_eq!(&grouped, &epoch_batches(&data, &grouping, batch_size, seed, epoch));
        let lengths = |batches: &[Vec<usize>]| batches.iter().map(Vec::len).collect::<Vec<_>>();
        prop_assert_eq!(lengths(&grouped), lengths(&chunks));
        let sorted = |mut images: Vec<usize>| {
            images.sort_unstable();
            images
        };
        prop_assert_eq!(sorted(grouped.concat()), sorted(order));
    }
}

#[test]
fn batches_are_others_in_every_epoch_and_the_last_one_prefers_no_shape() {
    let data = mixed(62);
    let grouping = config(true);
    let batches = |seed, epoch| epoch_batches(&data, &grouping, 4, seed, epoch);
    assert_ne!(batches(1, 0), batches(1, 1));
    assert_ne!(batches(1, 0), batches(2, 0));
    // The last batch has two images.
    let last: HashSet<usize> = (0..400).flat_map(|epoch| batches(1, epoch).pop().unwrap()).collect();
    assert_eq!(last.len(), 62);
    // An image has many others as neighbours, also of the images of rare shapes.
    let square = 7;
    let with_square = |batch: &Vec<usize>| batch.contains(&square);
    let neighbours: HashSet<usize> =
        (0..400).flat_map(|epoch| batches(1, epoch).into_iter().find(with_square).unwrap()).collect();
    assert!(neighbours.len() > 8, "{neighbours:?}");
}

#[test]
fn images_of_one_shape_and_batches_of_one_image_stay_as_they_are() {
    // After resizing and padding, 640x480 and 320x240 have the same shape.
    let sizes: Vec<[u32; 2]> = (0..30).map(|index| if index % 2 == 0 { [640, 480] } else { [320, 240] }).collect();
    let same = with_sizes(&sizes);
    assert_eq!(epoch_batches(&same, &config(true), 4, 1, 2), epoch_batches(&same, &config(false), 4, 1, 2));
    let data = mixed(30);
    assert_eq!(epoch_batches(&data, &config(true), 1, 1, 2), epoch_batches(&data, &config(false), 1, 1, 2));
    let fixed = |grouped| DataConfig { fixed_size: Some([320, 320]), ..config(grouped) };
    assert_eq!(epoch_batches(&data, &fixed(true), 4, 1, 2), epoch_batches(&data, &fixed(false), 4, 1, 2));
}
