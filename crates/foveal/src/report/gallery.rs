//! Images of the validation set with their objects and detections, and crops of likely label errors.

use foveal_boxes::BBox;
use foveal_data::Dataset;
use foveal_eval::{LabelError, LabelErrorKind};
use rayon::prelude::*;

use super::matching::{FOUND_IOU, ImageMatches};
use crate::page::{Card, Grid, Html, Mark, MarkKind, ScoreRange, around, crop as part_of, el, jpeg};

/// Largest number of images.
const IMAGES: usize = 100;
/// Bytes of all images of the gallery with their boxes, as they are in the page.
const BYTES: usize = 3_700_000;
/// Bytes of the markup of a box, without the name of its class.
const MARK_BYTES: usize = 190;
/// Most and fewest bytes of an image.
const IMAGE_BYTES: [usize; 2] = [6_000, 26_000];
/// Largest number of detections that are drawn on an image, the highest scores first.
const DETECTIONS: usize = 60;
/// Largest number of crops of likely label errors.
const CROPS: usize = 24;
/// Bytes of a crop.
const CROP_BYTES: usize = 9_000;

/// The gallery: the images with most errors at the score `shown`. Images that cannot be read are left out and counted
/// in the text.
pub(super) fn gallery(dataset: &Dataset, images: &[ImageMatches], range: ScoreRange) -> Html {
    let errors = |index: &usize| images[*index].errors(range.shown).iter().sum::<usize>();
    let mut order: Vec<usize> = (0..images.len().min(dataset.len())).collect();
    order.sort_by_key(|index| std::cmp::Reverse(errors(index)));
    order.truncate(IMAGES);
    let marks: Vec<Vec<Mark>> = order.iter().map(|&index| marks(dataset, index, &images[index], range)).collect();
    let of_marks: usize = marks.iter().map(Vec::len).sum::<usize>() * MARK_BYTES;
    // Base64 needs four characters for three bytes.
    let each = BYTES.saturating_sub(of_marks) / order.len().max(1) * 3 / 4;
    let each = each.clamp(IMAGE_BYTES[0], IMAGE_BYTES[1]);
    let cards: Vec<Option<Card>> = order
        .par_iter()
        .zip(marks)
        .map(|(&index, marks)| {
            let record = dataset.record(index);
            let (jpeg, size) = (jpeg(&dataset.load(index).ok()?, each)?, [record.width, record.height]);
            Some(Card { jpeg, size, name: record.file_name.clone(), marks })
        })
        .collect();
    let unreadable = cards.iter().filter(|card| card.is_none()).count();
    let cards: Vec<Card> = cards.into_iter().flatten().collect();
    if cards.is_empty() {
        return Html::new();
    }
    let categories = dataset.label_map().categories().iter();
    let classes = categories.map(|category| category.name.clone()).collect();
    let mut note = format!(
        "The {} of {} images with most errors. A detection finds an object of its class from an IoU of {FOUND_IOU}; up to \
         {DETECTIONS} detections an image are shown. The slider begins at the score with the best F1 of all classes \
         together. A click on an image enlarges it.",
        cards.len(),
        dataset.len(),
    );
    if unreadable > 0 {
        note += &format!(" {unreadable} images could not be read.");
    }
    let grid = Grid { id: "gallery-grid".to_owned(), classes, score: Some(range), filters: true, labels: false, cards };
    Html::from(el("p").class("note").text(note)).with(key()).with(grid.html())
}

/// What the colours of the boxes mean.
fn key() -> Html {
    let entry = |class: &'static str, name: &str| {
        let rect = el("rect").attr("x", 3).attr("y", 3).attr("width", 24).attr("height", 14);
        let image = el("svg").attr("viewBox", "0 0 30 20").attr("aria-hidden", "true");
        el("li").child(image.child(el("g").class(class).child(rect))).text(format!(" {name}"))
    };
    let entries = [
        entry("o", "object that was found"),
        entry("o bad", "object that was missed (dashed)"),
        entry("d", "correct detection"),
        entry("d bad", "false alarm"),
        entry("i", "ignored region (dotted)"),
    ];
    el("ul").class("key").children(entries).into()
}

fn marks(dataset: &Dataset, index: usize, matches: &ImageMatches, range: ScoreRange) -> Vec<Mark> {
    let record = dataset.record(index);
    let mark = |bbox: &BBox, class: u32, kind| {
        let xywh = [bbox.x1, bbox.y1, bbox.width(), bbox.height()];
        Mark { xywh, class: class as usize, kind }
    };
    let objects = record.objects.iter().zip(&matches.found);
    let objects = objects.map(|(object, found)| mark(&object.bbox, object.class, MarkKind::Object { found: *found }));
    // An ignored region has no class in the data set.
    let crowds = record.crowds.iter().map(|crowd| mark(crowd, u32::MAX, MarkKind::Ignored));
    let detections = matches.detections.iter().filter(|found| found.score >= range.lowest).take(DETECTIONS);
    let detections = detections.map(|found| {
        mark(&found.bbox, found.class, MarkKind::Detection { score: found.score, correct: found.correct })
    });
    crowds.chain(objects).chain(detections).collect()
}

/// Crops around likely label errors.
pub(super) fn label_errors(dataset: &Dataset, errors: &[LabelError]) -> Html {
    if errors.is_empty() {
        return Html::new();
    }
    let cards: Vec<Card> = errors.par_iter().take(CROPS).filter_map(|error| crop(dataset, error)).collect();
    let categories = dataset.label_map().categories().iter();
    let classes = categories.map(|category| category.name.clone()).collect();
    let note = format!(
        "{} annotations are probably wrong; the most likely ones are shown. They are to be looked at by a person: the \
         network can be wrong too.",
        errors.len()
    );
    let grid = Grid { id: "label-grid".to_owned(), classes, score: None, filters: true, labels: false, cards };
    Html::from(el("p").class("note").text(note)).with(grid.html())
}

/// The crop around a likely label error; `None` if its image cannot be read.
fn crop(dataset: &Dataset, error: &LabelError) -> Option<Card> {
    let index = dataset.records().iter().position(|record| record.image_id == error.image_id)?;
    let image = dataset.load(index).ok()?;
    let [x, y, width, height] = error.bbox.map(|value| value as f32);
    let (part, [left, top]) = part_of(&image, &around(&BBox::new(x, y, x + width, y + height)));
    let name = |id: Option<i64>| {
        let class = id.and_then(|id| dataset.label_map().class_of(id));
        class.map_or("?", |class| dataset.label_map().category(class).name.as_str())
    };
    let score = error.score.unwrap_or(0.0);
    let (said, class) = match error.kind {
        LabelErrorKind::NoObject => (
            format!("{} {score:.2}, but no object is annotated", name(error.detected_category_id)),
            error.detected_category_id,
        ),
        LabelErrorKind::NeverFound => {
            (format!("{} that no detection finds", name(error.category_id)), error.category_id)
        }
        LabelErrorKind::OtherClass => (
            format!(
                "annotated as {}, detected as {} {score:.2}",
                name(error.category_id),
                name(error.detected_category_id)
            ),
            error.category_id,
        ),
    };
    let class = class.and_then(|id| dataset.label_map().class_of(id)).unwrap_or(0) as usize;
    let kind = match error.kind {
        LabelErrorKind::NoObject => MarkKind::Detection { score, correct: false },
        _ => MarkKind::Object { found: None },
    };
    let xywh = [x - left as f32, y - top as f32, width, height];
    let size = [part.width(), part.height()];
    let jpeg = jpeg(&part, CROP_BYTES)?;
    Some(Card { jpeg, size, name: format!("{}: {said}", error.file_name), marks: vec![Mark { xywh, class, kind }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::matching::matches;
    use foveal_coco::{CocoDetection, bbox_to_xywh};
    use foveal_data::{DataConfig, Source};

    fn shapes(count: usize) -> Dataset {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.val_count = count;
        config.open_val().unwrap().dataset
    }

    #[test]
    fn a_gallery_of_100_images_is_under_4_megabytes() {
        let dataset = shapes(120);
        let range = ScoreRange { lowest: 0.05, shown: 0.5 };
        let detections: Vec<CocoDetection> = dataset
            .records()
            .iter()
            .filter_map(|record| record.objects.first().map(|object| (record, &object.bbox)))
            .flat_map(|(record, object)| {
                let category_id = dataset.label_map().category(0).id;
                let many = (0..60).map(move |n| (n, bbox_to_xywh(&object.flip_horizontal(record.width as f32))));
                many.map(move |(n, bbox)| CocoDetection {
                    image_id: record.image_id,
                    category_id,
                    bbox,
                    score: 0.9 - 0.01 * f64::from(n),
                })
            })
            .collect();
        let html = gallery(&dataset, &matches(&dataset, &detections), range);
        assert_eq!(html.as_str().matches("<img").count(), 100);
        assert!(html.as_str().len() < 4_000_000, "{}", html.as_str().len());
        assert!(html.as_str().matches("<g class=\"d").count() > 3000);
    }
}
