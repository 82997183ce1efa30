//! Speed of the training and waiting for data.

use super::curves::over_steps;
use super::history::{History, Line, points};
use crate::page::{Axis, Cell, Html, Series, Table, el};

/// The charts of the speed, and the time of each epoch.
pub(super) fn speed(history: &History) -> Html {
    let of_steps = |value: fn(&Line) -> Option<f64>| points(&history.steps, value);
    let images = vec![Series::new("images", of_steps(|line| line.images_per_second))];
    let wait = vec![Series::new("waiting", of_steps(|line| line.data_wait))];
    let charts = [
        over_steps("Images per second", Axis::over("images/s", [0.0, 0.0]), images),
        over_steps("Share of the time that was spent waiting for data", Axis::over("fraction", [0.0, 1.0]), wait),
    ];
    let rows = history.epochs.iter().map(|line| {
        vec![
            Cell::count(line.epoch),
            Cell::Number(Some(line.step as f64), 0),
            Cell::Number(line.seconds, 1),
            Cell::Number(line.data_wait.map(|share| 100.0 * share), 0),
            Cell::Number(line.objects, 0),
            Cell::Number(line.objects_without_anchor, 0),
        ]
    });
    let columns = ["epoch", "last step", "seconds", "waiting for data, %", "objects", "without anchor"];
    let columns = columns.map(str::to_owned).to_vec();
    let caption = "Time of the steps of each epoch, and its objects after augmentation".to_owned();
    let table = Table { caption, columns, rows: rows.collect() };
    let table = (!table.rows.is_empty()).then(|| table.html(true));
    let folded = table.map(|table| el("details").child(el("summary").text("Epochs")).child(table));
    Html::from(el("div").class("charts").children(charts)).with(folded.into_iter().collect::<Html>())
}
