//! Statistics of data sets, with charts: of the sets of a run, and for `foveal data stats`.

use foveal_data::{Dataset, PartUse, Record, SetCoverage, Stats, part_uses};
use foveal_train::RunConfig;

use crate::page::{BarChart, Bars, Bin, Cell, HeatMap, Histogram, Html, Table, el};

/// Number of intervals of histograms.
const BINS: usize = 30;
/// Rows and columns of the map of positions.
const CELLS: usize = 24;
/// Largest number of images on which the coverage by anchors is measured, evenly spaced.
const COVERED_IMAGES: usize = 2000;
/// Ratios of height to width outside this range are counted at its ends.
const RATIOS: [f64; 2] = [0.125, 8.0];
/// Share of the values that a histogram of sides shows; the largest ones are counted in its last interval.
const SHOWN_SHARE: f64 = 0.99;

/// The statistics of some data sets with their names, of which the first is usually the training set. With a
/// configuration, they have the sizes of the objects after the images are resized.
///
/// # Panics
/// If there is no set.
pub(crate) fn statistics(config: Option<&RunConfig>, sets: &[(&str, &Dataset)]) -> Html {
    let names: Vec<String> = sets.iter().map(|(name, _)| (*name).to_owned()).collect();
    let charts = [
        classes(sets, &names),
        sides(config, sets[0]),
        histogram(
            "Height over width of the objects (log 2)",
            "log2(height / width)",
            &names,
            Some(RATIOS[0].log2()),
            ratios(sets),
        ),
        histogram("Objects in an image", "objects", &names, None, sets.iter().map(|(_, set)| objects(set)).collect()),
    ];
    let charts = charts.into_iter().chain(sets.iter().map(|set| positions(*set)));
    let parts = config.map_or_else(Html::new, |config| parts(config, sets[0].1));
    summary(sets).with(parts).with(el("div").class("charts").children(charts))
}

/// The sets that the training set was joined from; nothing if it is one.
fn parts(config: &RunConfig, train: &Dataset) -> Html {
    let uses = part_uses(train, &config.data);
    if uses.is_empty() {
        return Html::new();
    }
    let rows = uses.iter().map(|PartUse { part, images, per_epoch }| {
        let kind = if part.backgrounds { "background images" } else { "annotated" };
        let numbers = [Cell::count(*images), Cell::Number(Some(part.weight), 2), Cell::Number(Some(*per_epoch), 1)];
        [part.key.as_str(), &part.path, kind].map(Cell::text).into_iter().chain(numbers).collect()
    });
    let columns = ["set", "file", "kind", "images", "weight", "images in an epoch"].map(str::to_owned).to_vec();
    let caption = "The sets that the training set is made of.".to_owned();
    Table { caption, columns, rows: rows.collect() }.html(false)
}

fn summary(sets: &[(&str, &Dataset)]) -> Html {
    let columns =
        ["set", "images", "without objects", "objects", "ignored regions", "small", "medium", "large", "classes"];
    let rows = sets.iter().map(|(name, set)| {
        let stats = Stats::of(set);
        let [small, medium, large] = stats.small_medium_large;
        let used = stats.classes.iter().filter(|class| class.objects > 0).count();
        let counts = [stats.images, stats.empty_images, stats.objects, stats.crowds, small, medium, large, used];
        [Cell::text(name)].into_iter().chain(counts.map(Cell::count)).collect()
    });
    let caption = "The data sets; small objects have an area below 32x32 pixels, large ones of 96x96 pixels or more.";
    Table { caption: caption.to_owned(), columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
        .html(false)
}

fn classes(sets: &[(&str, &Dataset)], names: &[String]) -> Html {
    let counts: Vec<Vec<usize>> = sets.iter().map(|(_, set)| set.objects_by_class()).collect();
    let categories = sets[0].1.label_map().categories().iter().enumerate();
    let row = |(index, category): (usize, &foveal_coco::CategoryInfo)| Bars {
        name: category.name.clone(),
        values: counts.iter().map(|counts| counts.get(index).copied().unwrap_or(0) as f64).collect(),
    };
    let mut rows: Vec<Bars> = categories.map(row).collect();
    rows.sort_by(|a, b| b.values[0].total_cmp(&a.values[0]));
    let (title, measure) = ("Objects of each class".to_owned(), "objects".to_owned());
    BarChart { title, measure, series: names.to_vec(), rows }.html()
}

/// The sides of the objects before the images are resized and, with a configuration, after it.
fn sides(config: Option<&RunConfig>, (name, set): (&str, &Dataset)) -> Html {
    let side = |record: &Record, scale: [f32; 2]| -> Vec<f64> {
        let sides = record.objects.iter().map(|object| object.bbox.scale(scale[0], scale[1]).area().sqrt());
        sides.map(f64::from).collect()
    };
    let before = set.records().iter().flat_map(|record| side(record, [1.0, 1.0]));
    let after = config.map(|config| -> Vec<f64> {
        let preprocess = config.data.preprocess();
        let resized = set.records().iter().flat_map(|record| {
            let (width, height) = preprocess.target_size(record.width, record.height);
            side(record, [width as f32 / record.width as f32, height as f32 / record.height as f32])
        });
        resized.collect()
    });
    let names = ["as annotated", "after resizing"].map(str::to_owned);
    let values: Vec<Vec<f64>> = [before.collect()].into_iter().chain(after).collect();
    histogram(
        &format!("Sides of the objects of the {}", set_name(name)),
        "square root of the area in pixels",
        &names[..values.len()],
        None,
        values,
    )
}

fn ratios(sets: &[(&str, &Dataset)]) -> Vec<Vec<f64>> {
    let ratio = |set: &Dataset| {
        let boxes = set.records().iter().flat_map(|record| &record.objects).map(|object| object.bbox);
        let ratios = boxes.filter(|bbox| bbox.width() > 0.0).map(|bbox| f64::from(bbox.height() / bbox.width()));
        ratios.map(|ratio| ratio.clamp(RATIOS[0], RATIOS[1]).log2()).collect()
    };
    sets.iter().map(|(_, set)| ratio(set)).collect()
}

fn objects(set: &Dataset) -> Vec<f64> {
    set.records().iter().map(|record| record.objects.len() as f64).collect()
}

/// A histogram of the values of some series, from `low` or 0 on. The largest 1 % of the values are in the last
/// interval.
fn histogram(title: &str, measure: &str, names: &[String], low: Option<f64>, mut values: Vec<Vec<f64>>) -> Html {
    let mut all: Vec<f64> = values.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    if let Some(most) = all.get((SHOWN_SHARE * all.len().saturating_sub(1) as f64) as usize) {
        values.iter_mut().flatten().for_each(|value| *value = value.min(*most));
    }
    // A count has an interval of its own where there are few of them.
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let is_count = low.is_none() && all.iter().all(|value| value.fract() == 0.0);
    let bins = match is_count && most < BINS as f64 {
        true => (0..=most as usize).map(|number| single(number as f64, &values)).collect(),
        false => Bin::count(low.unwrap_or(0.0), BINS, &values),
    };
    let (title, measure) = (title.to_owned(), measure.to_owned());
    Histogram { title, measure, counted: "number".to_owned(), series: names.to_vec(), bins }.html()
}

/// The interval of one whole number.
fn single(number: f64, series: &[Vec<f64>]) -> Bin {
    let count = |values: &Vec<f64>| values.iter().filter(|value| **value == number).count();
    Bin { from: number - 0.5, to: number + 0.5, counts: series.iter().map(count).collect() }
}

/// The name of a set in a title.
fn set_name(name: &str) -> String {
    if name == "set" { "set".to_owned() } else { format!("{name} set") }
}

/// How often each place of an image is in an object.
fn positions((name, set): (&str, &Dataset)) -> Html {
    let mut values = vec![vec![0.0; CELLS]; CELLS];
    for record in set.records() {
        let cell =
            |value: f32, length: u32| ((value / length.max(1) as f32 * CELLS as f32).max(0.0) as usize).min(CELLS - 1);
        for object in &record.objects {
            let (x, y) = object.bbox.center();
            values[cell(y, record.height)][cell(x, record.width)] += 1.0;
        }
    }
    let axes = ["top to bottom of the image".to_owned(), "left to right of the image".to_owned()];
    let title = format!("Centres of the objects of the {}", set_name(name));
    HeatMap { title, axes, names: None, values, row_scales: None }.html()
}

/// How well the anchors cover the objects of the training set.
pub(super) fn coverage(config: &RunConfig, train: &Dataset) -> Html {
    let step = train.len().div_ceil(COVERED_IMAGES).max(1);
    let indices: Vec<usize> = (0..train.len()).step_by(step).collect();
    let part = train.select(&indices);
    let found = SetCoverage::new(&part, &config.data, &config.model.anchors, &config.matcher);
    let sizes = ["small objects", "medium objects", "large objects"].map(str::to_owned).into_iter().zip(found.by_size);
    let categories = train.label_map().categories().iter().map(|category| format!("class {}", category.name));
    let classes = categories.zip(found.by_class.iter().copied());
    let groups = [("all objects".to_owned(), found.all)].into_iter().chain(sizes).chain(classes);
    let rows = groups.filter(|(_, group)| group.objects > 0).map(|(name, group)| {
        let share = |count: usize| Cell::Number(Some(count as f64 / group.objects as f64), 3);
        vec![
            Cell::Text(name),
            Cell::count(group.objects),
            share(group.covered),
            Cell::Number(Some(f64::from(group.mean_best_iou)), 3),
            Cell::Number(Some(f64::from(group.mean_matched)), 1),
            Cell::count(group.without_anchor),
            share(group.without_anchor),
        ]
    });
    let columns =
        ["objects", "number", "IoU of 0.5 or more", "mean best IoU", "anchors assigned", "without anchor", "share"];
    let caption = format!(
        "Anchors of the objects of {} training images after resizing, without augmentation. An object without an anchor \
         takes no part in the training.",
        part.len()
    );
    Table { caption, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }.html(true)
}
