//! What the detections of the last evaluation say: classes, errors, confusion, calibration, curves, sizes.

use std::collections::HashMap;

use foveal_eval::{Analysis, Calibration, CategoryCurve, ClassRow, Confusion, Curve, Tide};

use super::history::Line;
use crate::page::{Axis, BarChart, Bars, Cell, HeatMap, Html, LineChart, Series, Table, el};

/// Largest number of classes with a curve of their own.
const CURVES: usize = 6;

/// The table of classes of the last evaluation: of the analysis if there is one, else of the log.
pub(super) fn classes(analysis: Option<&Analysis>, last: Option<&Line>) -> Html {
    match (analysis, last) {
        (Some(analysis), _) => class_table(&analysis.classes),
        (None, Some(line)) => logged_classes(line),
        (None, None) => Html::new(),
    }
}

fn class_table(classes: &[ClassRow]) -> Html {
    let columns = [
        "class",
        "id",
        "objects",
        "detections",
        "AP",
        "AP50",
        "AP75",
        "AR",
        "best F1",
        "at score",
        "precision",
        "recall",
    ];
    let row = |row: &ClassRow| {
        let best = row.best_f1;
        let of_best = |value: Option<f64>| Cell::Number(value, 3);
        vec![
            Cell::text(&row.name),
            Cell::Number(Some(row.id as f64), 0),
            Cell::count(row.objects),
            Cell::count(row.detections),
            Cell::metric(row.ap),
            Cell::metric(row.ap50),
            Cell::metric(row.ap75),
            Cell::metric(row.ar),
            of_best(best.map(|best| best.f1)),
            of_best(best.map(|best| best.threshold)),
            of_best(best.map(|best| best.precision)),
            of_best(best.map(|best| best.recall)),
        ]
    };
    let caption = "Metrics of each class; the last four columns are at the score with the best F1, at an IoU of 0.5.";
    table(caption, &columns, classes.iter().map(row).collect())
}

fn logged_classes(line: &Line) -> Html {
    let classes = line.metrics.get("per_category").and_then(serde_json::Value::as_object);
    let rows = classes.into_iter().flatten().map(|(id, class)| {
        let metric = |name: &str| Cell::metric(class.get(name).and_then(serde_json::Value::as_f64));
        let name = class.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        vec![Cell::text(name), Cell::Number(id.parse().ok(), 0), metric("AP"), metric("AP50")]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Html::new();
    }
    table("Metrics of each class", &["class", "id", "AP", "AP50"], rows)
}

fn table(caption: &str, columns: &[&str], rows: Vec<Vec<Cell>>) -> Html {
    let columns = columns.iter().map(|&name| name.to_owned()).collect();
    Table { caption: caption.to_owned(), columns, rows }.html(true)
}

/// The charts and tables of the errors of the last evaluation.
pub(super) fn errors(analysis: &Analysis) -> Html {
    let names: HashMap<i64, &str> = analysis.classes.iter().map(|row| (row.id, row.name.as_str())).collect();
    let mut charts = vec![tide(&analysis.tide)];
    charts.extend(curves(analysis, &names));
    charts.extend(analysis.calibration.iter().map(reliability));
    let note = "The kinds of errors are those of TIDE (Bolya et al., arXiv 2008.08115): by how much AP50 would rise if \
                only the errors of that kind were corrected.";
    Html::from(el("p").class("note").text(note))
        .with(el("div").class("charts").children(charts))
        .with(confusion(&analysis.confusion, &names))
        .with(sizes(analysis))
        .with(crowdedness(analysis))
}

fn tide(tide: &Tide) -> Html {
    let rows = tide
        .errors()
        .into_iter()
        .map(|(name, error)| Bars { name: format!("{name} ({})", error.count), values: vec![error.delta_ap] });
    let (title, measure) = ("Kinds of errors, with their numbers".to_owned(), "gain of AP50".to_owned());
    BarChart { title, measure, series: vec!["gain".to_owned()], rows: rows.collect() }.html()
}

/// The curves of the mean and of the classes with the lowest AP50.
fn curves(analysis: &Analysis, names: &HashMap<i64, &str>) -> Vec<Html> {
    let curves = &analysis.curves;
    let area = |curve: &CategoryCurve| curve.curve.precision_at_recall.iter().sum::<f64>();
    let mut worst: Vec<&CategoryCurve> = curves.per_category.iter().collect();
    worst.sort_by(|a, b| area(a).total_cmp(&area(b)));
    worst.truncate(CURVES);
    let chart = |title: &str, [x, y]: [&str; 2], xs: &[f64], values: fn(&Curve) -> &Vec<f64>| {
        let points = |curve: &Curve| xs.iter().zip(values(curve)).map(|(x, y)| [*x, *y]).collect();
        let of_class = |class: &&CategoryCurve| {
            Series::new(names.get(&class.id).copied().unwrap_or_default(), points(&class.curve))
        };
        let mean = Series::new("mean of all classes", points(&curves.mean));
        let series = [mean].into_iter().chain(worst.iter().map(of_class)).collect();
        let (x, y) = (Axis::over(x, [0.0, 1.0]), Axis::over(y, [0.0, 1.0]));
        LineChart { title: title.to_owned(), x, y, series }.html()
    };
    vec![
        chart("Precision over recall (IoU 0.5)", ["recall", "precision"], &curves.recalls, |c| &c.precision_at_recall),
        chart("F1 over the score", ["score", "F1"], &curves.scores, |c| &c.f1),
        chart("Recall over the score", ["score", "recall"], &curves.scores, |c| &c.recall),
        chart("Precision over the score", ["score", "precision"], &curves.scores, |c| &c.precision),
    ]
}

/// The reliability diagram.
fn reliability(calibration: &Calibration) -> Html {
    let bins = calibration.bins.iter().filter(|bin| bin.count > 0);
    let series = vec![
        Series::new("detections", bins.map(|bin| [bin.score, bin.accuracy]).collect()),
        Series::new("scores that are probabilities", vec![[0.0, 0.0], [1.0, 1.0]]),
    ];
    let title = format!(
        "Calibration: expected error {:.3}, largest {:.3}, {} detections",
        calibration.ece, calibration.mce, calibration.detections
    );
    let x = Axis::over("mean score", [0.0, 1.0]);
    let y = Axis::over("fraction that matches an object", [0.0, 1.0]);
    LineChart { title, x, y, series }.html()
}

/// The confusion matrix: objects in rows, detections in columns, and what has no partner last.
fn confusion(confusion: &Confusion, names: &HashMap<i64, &str>) -> Html {
    let count = confusion.categories.len();
    let index = |id: Option<i64>| match id {
        Some(id) => confusion.categories.iter().position(|other| *other == id),
        None => Some(count),
    };
    let mut values = vec![vec![0.0; count + 1]; count + 1];
    for cell in &confusion.cells {
        if let (Some(row), Some(column)) = (index(cell.truth), index(cell.detected)) {
            values[row][column] = cell.count as f64;
        }
    }
    let named = |other: &str| {
        let classes = confusion.categories.iter().map(|id| names.get(id).copied().unwrap_or_default().to_owned());
        classes.chain([other.to_owned()]).collect::<Vec<String>>()
    };
    let map = HeatMap {
        title: "Confusion, the colour relative to the row".to_owned(),
        axes: ["class of the object".to_owned(), "class of the detection".to_owned()],
        names: Some([named("no object"), named("not found")]),
        row_scales: Some(values.iter().map(|row| row.iter().sum()).collect()),
        values,
    };
    let note = format!(
        "Detections count from the score with the best F1 of their class, and take an object of any class from an IoU of {}.",
        confusion.iou
    );
    Html::from(el("div").class("charts").child(map.html())).with(el("p").class("note").text(note))
}

fn sizes(analysis: &Analysis) -> Html {
    let rows = analysis.sizes.iter().map(|row| {
        let metrics = [row.ap, row.ap50, row.ar].map(Cell::metric);
        [Cell::text(&row.band.label), Cell::count(row.objects)].into_iter().chain(metrics).collect()
    });
    table("Metrics by the size of the objects", &["size", "objects", "AP", "AP50", "AR"], rows.collect())
}

fn crowdedness(analysis: &Analysis) -> Html {
    let rows = analysis.objects_per_image.iter().map(|row| {
        let range = match row.max_objects {
            Some(most) if most == row.min_objects => most.to_string(),
            Some(most) => format!("{} to {most}", row.min_objects),
            None => format!("{} or more", row.min_objects),
        };
        let metrics = [row.ap, row.ap50, row.ar].map(Cell::metric);
        [Cell::text(range), Cell::count(row.images)].into_iter().chain(metrics).collect()
    });
    let columns = ["objects in the image", "images", "AP", "AP50", "AR"];
    table("Metrics by the number of objects in an image", &columns, rows.collect())
}
