//! Whether the objects of the validation set can be detected: their sizes after resizing, anchors, and training
//! objects.

use foveal_data::{Dataset, SetCoverage, Source};
use foveal_eval::Check;
use foveal_train::RunConfig;

use super::{RunFolder, images};

/// Number of images whose anchors are examined.
const SAMPLE: usize = 200;
/// Mean highest IoU of anchors below which they do not fit.
const LOOSE: f32 = 0.4;
/// Side of an object in pixels of the resized image below which it is hard to detect.
const TINY: f64 = 8.0;
/// Ratio of the median sizes of objects from which those of two sets differ.
const ALIKE: f32 = 1.8;
/// Fraction of the objects from which a defect is a cause.
const MANY: f64 = 0.25;

/// Checks the objects of the validation set against the settings and the training set.
pub(super) fn checks(dataset: &Dataset, config: &RunConfig, run: Option<&RunFolder>) -> Vec<Check> {
    let objects: usize = dataset.records().iter().map(|record| record.objects.len()).sum();
    if objects == 0 {
        return Vec::new();
    }
    let mut checks = vec![tiny(dataset, config, objects), anchors(dataset, config)];
    let trained = run.and_then(|run| run.config.as_ref());
    if let Some((trained, train)) = trained.and_then(|trained| Some((trained, training(trained)?))) {
        checks.push(untrained(dataset, &train, objects));
        checks.push(other_sizes(dataset, &train));
        checks.push(images::shared(dataset, config, &train, trained));
    }
    checks
}

/// The annotations of the training set; `None` if they cannot be read.
fn training(config: &RunConfig) -> Option<Dataset> {
    config.data.train.annotations.as_ref().filter(|_| config.data.source == Source::Coco)?;
    Some(config.data.inspect_train_annotations().ok()?.dataset)
}

/// The check of objects of other sizes in the training set.
fn other_sizes(dataset: &Dataset, train: &Dataset) -> Check {
    let side = |data: &Dataset| {
        let sides = data.records().iter().flat_map(|record| {
            let area = record.width as f32 * record.height as f32;
            record.objects.iter().map(move |object| (object.bbox.area() / area).sqrt())
        });
        let mut sides: Vec<f32> = sides.collect();
        sides.sort_by(f32::total_cmp);
        sides.get(sides.len() / 2).copied().unwrap_or(0.0)
    };
    let (trained, evaluated) = (side(train), side(dataset));
    let measured = format!(
        "The median side of an object is {:.1} % of that of its image in the training set and {:.1} % in the validation set",
        100.0 * trained,
        100.0 * evaluated
    );
    if trained <= 0.0 || (evaluated / trained).ln().abs() < ALIKE.ln() {
        return Check::nothing("other_sizes", measured);
    }
    let advice =
        "Check the boxes of both annotation files, such as the layout of bbox, and whether the images are alike";
    Check::found("other_sizes", 0.62, measured, advice)
}

fn tiny(dataset: &Dataset, config: &RunConfig, objects: usize) -> Check {
    let prepare = config.data.preprocess();
    let mut small = 0;
    for record in dataset.records() {
        let (width, height) = prepare.target_size(record.width, record.height);
        let factor =
            (f64::from(width) * f64::from(height) / (f64::from(record.width) * f64::from(record.height))).sqrt();
        let side = |area: f32| f64::from(area).sqrt() * factor;
        small += record.objects.iter().filter(|object| side(object.bbox.area()) < TINY).count();
    }
    let share = small as f64 / objects as f64;
    let measured = format!(
        "{small} of {objects} objects have a side below {TINY} pixels after resizing (data.min_size {}, data.max_size {})",
        config.data.min_size, config.data.max_size
    );
    if share < MANY {
        return Check::nothing("small_objects", measured);
    }
    let advice = "Train and evaluate with larger images (data.min_size, data.max_size), or cut the images into tiles";
    Check::found("small_objects", 0.9 * share, measured, advice)
}

fn anchors(dataset: &Dataset, config: &RunConfig) -> Check {
    let every = dataset.len().div_ceil(SAMPLE).max(1);
    let chosen: Vec<usize> = (0..dataset.len()).step_by(every).collect();
    let found = SetCoverage::new(&dataset.select(&chosen), &config.data, &config.model.anchors, &config.matcher).all;
    let share = |count: usize| count as f64 / found.objects.max(1) as f64;
    let (covered, without) = (share(found.covered), share(found.without_anchor));
    let measured = format!(
        "On {} images, the best anchor of an object has a mean IoU of {:.2} with it; {:.0} % of the objects have one of at \
         least 0.5, and the matcher assigns no anchor to {:.0} %",
        chosen.len(),
        found.mean_best_iou,
        100.0 * covered,
        100.0 * without
    );
    if found.objects == 0 || (found.mean_best_iou >= LOOSE && without < MANY) {
        return Check::nothing("anchors", measured);
    }
    let advice = "Fit the anchors to the objects (model.anchors.base_sizes, scales, ratios) and the matcher to the anchors \
                  (matcher.positive_iou, low_quality); `foveal anchors coverage` shows how well they fit";
    Check::found("anchors", 0.9 * (1.0 - covered).max(without), measured, advice)
}

/// The check of classes without training objects.
fn untrained(dataset: &Dataset, train: &Dataset, objects: usize) -> Check {
    let trained = train.objects_by_class();
    let labels = dataset.label_map();
    let names = labels.categories().iter().zip(dataset.objects_by_class());
    let has = |name: &str| {
        let class = train.label_map().categories().iter().position(|category| category.name == name);
        class.is_some_and(|class| trained[class] > 0)
    };
    let without: Vec<(&str, usize)> =
        names.filter(|(c, count)| *count > 0 && !has(&c.name)).map(|(c, count)| (c.name.as_str(), count)).collect();
    let count: usize = without.iter().map(|(_, count)| count).sum();
    let all: usize = trained.iter().sum();
    let named: Vec<String> =
        without.iter().take(4).map(|(name, _)| foveal_base::printable(name).into_owned()).collect();
    let examples = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let measured = format!(
        "The training set has {all} objects; {} classes with {count} of {objects} validation objects have none in \
         it{examples}",
        without.len()
    );
    let share = count as f64 / objects as f64;
    if share < MANY {
        return Check::nothing("classes_not_trained", measured);
    }
    let advice = "Check the names of the categories and the objects of the training annotations";
    Check::found("classes_not_trained", 0.95 * share, measured, advice)
}
