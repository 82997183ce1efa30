//! The page of `foveal data check`: each finding with its examples and crops of the images.

use std::collections::BTreeMap;

use foveal_boxes::BBox;
use foveal_data::{Case, CheckReport, Opened, Problem, Spot};
use rayon::prelude::*;

use crate::page::{Card, Cell, Grid, Html, Mark, MarkKind, Page, Section, Table, around, crop, el, jpeg};

/// Largest number of crops of a finding of a set.
const CROPS: usize = 12;
/// Bytes of all crops as they are in the page, and of one crop at most.
const BYTES: usize = 4_000_000;
const CROP_BYTES: usize = 9_000;
/// Largest number of images of a case that are shown.
const IMAGES_OF_CASE: usize = 2;

/// The page as text of an HTML file. It has under 5 MB: at most [`CROPS`] crops of each finding of a set, smaller ones
/// where there are many findings.
pub(super) fn page(sets: &[(String, Opened)], cases: &[Case]) -> String {
    let mut by_kind: BTreeMap<(usize, Problem), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        by_kind.entry((case.set, case.problem)).or_default().push(case);
    }
    let spots: BTreeMap<(usize, Problem), Vec<(&Case, &Spot)>> = by_kind
        .into_iter()
        .map(|(key, cases)| {
            let spots =
                cases.into_iter().flat_map(|case| case.spots.iter().take(IMAGES_OF_CASE).map(move |s| (case, s)));
            (key, spots.take(CROPS).collect())
        })
        .collect();
    let crops = spots.values().map(Vec::len).sum::<usize>().max(1);
    // Base64 needs four characters for three bytes.
    let bytes = (BYTES / crops * 3 / 4).min(CROP_BYTES);
    let section = |set: usize| Section {
        id: section_id(&sets[set].0).into(),
        title: title(&sets[set].0).into(),
        body: findings(sets, set, |problem| {
            let spots = spots.get(&(set, problem)).map_or(&[][..], Vec::as_slice);
            spots.par_iter().filter_map(|(case, spot)| card(sets, case, spot, bytes)).collect()
        }),
    };
    let sections = (0..sets.len()).map(section).collect();
    Page { title: "Check of the data".to_owned(), lead: lead(sets), sections }.html()
}

/// The title of a set. Further training sets have the names of their keys.
fn title(name: &str) -> String {
    match name {
        "train" => "Training set".to_owned(),
        "val" => "Validation set".to_owned(),
        "set" => "Data set".to_owned(),
        key => format!("Training set data.{key}"),
    }
}

/// The part of the page's address that leads to a set: its name without brackets and underscores.
fn section_id(name: &str) -> String {
    name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The numbers of the sets.
fn lead(sets: &[(String, Opened)]) -> Html {
    let columns =
        ["set", "file", "images", "without objects", "objects", "crowd regions", "errors", "notes", "decoded"];
    let rows = sets.iter().map(|(name, opened)| {
        let report = &opened.report;
        let all: usize = report.findings.values().map(|found| found.count).sum();
        let counts = [report.images, report.empty_images, report.objects, report.crowds, report.errors()];
        let names = [Cell::text(title(name)), Cell::text(&report.set)].into_iter();
        let notes = [Cell::count(all - report.errors()), Cell::text(if report.decoded { "yes" } else { "no" })];
        names.chain(counts.map(Cell::count)).chain(notes).collect()
    });
    let caption = "Errors stop a run unless data.on_error is \"skip\". Notes never do: a person has to look whether they \
                   are mistakes. Near copies and damaged pixels are found only in images that were decoded.";
    let columns = columns.map(str::to_owned).to_vec();
    Table { caption: caption.to_owned(), columns, rows: rows.collect() }.html(false)
}

/// The findings of a set, errors first.
fn findings(sets: &[(String, Opened)], set: usize, cards: impl Fn(Problem) -> Vec<Card>) -> Html {
    let (name, Opened { dataset, report }) = &sets[set];
    if report.findings.is_empty() {
        return el("p").text("No defects were found.").into();
    }
    let classes: Vec<String> = dataset.label_map().categories().iter().map(|category| category.name.clone()).collect();
    let mut html = Html::new();
    for (number, problem) in report.findings.keys().enumerate() {
        html.push(heading(*problem, report));
        let cards = cards(*problem);
        let id = format!("{name}-{number}");
        html.push(Grid { id, classes: classes.clone(), score: None, filters: false, labels: true, cards }.html());
    }
    html
}

fn heading(problem: Problem, report: &CheckReport) -> Html {
    let Some(found) = report.findings.get(&problem) else { return Html::new() };
    let kind = if problem.is_error() { "error" } else { "note" };
    let mut items: Vec<Html> = found.examples.iter().map(|example| el("li").text(example).into()).collect();
    let more = found.count - found.examples.len();
    if more > 0 {
        items.push(el("li").text(format!("… and {more} more")).into());
    }
    let heading = el("h3").text(format!("{kind}: {} {}", found.count, problem.describe()));
    Html::from(heading).with(el("ul").children(items))
}

/// The crop around the boxes of a case, or its whole image; `None` if the image cannot be read.
fn card(sets: &[(String, Opened)], case: &Case, spot: &Spot, bytes: usize) -> Option<Card> {
    let dataset = &sets[spot.set].1.dataset;
    let image = dataset.load(spot.image).ok()?;
    let whole = BBox::new(0.0, 0.0, image.width() as f32, image.height() as f32);
    let region =
        spot.boxes.iter().map(|(bbox, _)| *bbox).reduce(|a, b| hull(&a, &b)).map_or(whole, |bbox| around(&bbox));
    let (part, [left, top]) = crop(&image, &region);
    let marks = spot.boxes.iter().map(|(bbox, class)| Mark {
        xywh: [bbox.x1 - left as f32, bbox.y1 - top as f32, bbox.width(), bbox.height()],
        class: *class as usize,
        kind: MarkKind::Object { found: None },
    });
    let record = dataset.record(spot.image);
    // The text of a case with one image names it already.
    let name = match case.spots.len() {
        1 => case.text.clone(),
        _ => format!("{}, image {}, {}", title(&sets[spot.set].0), record.image_id, record.file_name),
    };
    let size = [part.width(), part.height()];
    Some(Card { jpeg: jpeg(&part, bytes)?, size, name, marks: marks.collect() })
}

fn hull(a: &BBox, b: &BBox) -> BBox {
    BBox::new(a.x1.min(b.x1), a.y1.min(b.y1), a.x2.max(b.x2), a.y2.max(b.y2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::{AuditSet, DataConfig, Source, audit};

    #[test]
    fn a_page_with_many_findings_is_under_5_megabytes_and_names_are_escaped() {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.count = 40;
        config.shapes.size = [512, 512];
        let opened = config.open_train().unwrap();
        let kinds = [
            Problem::CopiedImage,
            Problem::SimilarImage,
            Problem::RepeatedBox,
            Problem::TwoClasses,
            Problem::TinyBox,
            Problem::CornerBox,
            Problem::SizeOutlier,
            Problem::AspectOutlier,
            Problem::EmptyImage,
            Problem::GreyImage,
        ];
        let mut sets = [("train".to_owned(), opened.clone()), ("val".to_owned(), opened)];
        let mut cases = Vec::new();
        for (set, problem) in (0..2).flat_map(|set| kinds.map(|problem| (set, problem))) {
            sets[set].1.report.findings.entry(problem).or_default().count += 40;
            for image in 0..24 {
                let spots = vec![Spot { set, image, boxes: Vec::new() }];
                cases.push(Case { problem, set, text: "<script>alert(1)</script>".to_owned(), spots });
            }
        }
        let html = page(&sets, &cases);
        assert!(html.len() < 5_000_000, "{}", html.len());
        assert_eq!(html.matches("<img").count(), 2 * kinds.len() * CROPS);
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("id=\"val\""));
    }

    #[test]
    fn a_clean_set_has_a_page_without_crops() {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.count = 30;
        let mut opened = config.open_train().unwrap();
        let cases = audit(&mut [AuditSet { opened: &mut opened, looks: Vec::new(), validation: false }]).unwrap();
        let html = page(&[("train".to_owned(), opened)], &cases);
        assert!(html.contains("No defects were found.") && !html.contains("<img"), "{cases:?}");
    }
}
