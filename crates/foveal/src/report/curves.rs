//! Losses, learning rate and metrics over the steps of a run.

use crate::page::{Axis, Html, LineChart, Series, el};

use super::history::{History, Line, points};

/// COCO's metrics of each evaluation that are drawn.
const METRICS: [&str; 4] = ["AP", "AP50", "AP75", "AR100"];
/// Metrics by the size of the objects.
const SIZES: [&str; 3] = ["APs", "APm", "APl"];

/// The charts of the course of a run.
pub(super) fn curves(history: &History) -> Html {
    let History { steps, epochs, evaluations, .. } = history;
    let losses = |title: &str, train: fn(&Line) -> Option<f64>, of_epoch: fn(&Line) -> Option<f64>, name: &str| {
        let validation = points(evaluations, |line| line.validation_loss(name));
        let series = vec![
            Series::new("training", points(steps, train)),
            Series::new("validation", validation),
            Series::new("training, mean of an epoch", points(epochs, of_epoch)),
        ];
        over_steps(title, Axis::over("loss", [0.0, 0.0]), series)
    };
    let metrics = |title: &str, names: &[&str]| {
        let series = names.iter().map(|name| Series::new(name, points(evaluations, |line| line.metric(name))));
        over_steps(title, Axis::over("fraction", [0.0, 0.0]), series.collect())
    };
    let rate = vec![Series::new("learning rate", points(steps, |line| line.lr))];
    let norm = vec![Series::new("gradient norm", points(steps, |line| line.grad_norm))];
    let charts = [
        losses("Total loss", |line| line.loss, |line| line.mean_loss, "total"),
        losses("Class loss", |line| line.class_loss, |line| line.mean_class_loss, "class"),
        losses("Box loss", |line| line.box_loss, |line| line.mean_box_loss, "box"),
        metrics("Metrics on the validation set", &METRICS),
        metrics("AP by the size of the objects", &SIZES),
        shares(history),
        levels(history),
        over_steps("Learning rate", Axis::over("learning rate", [0.0, 0.0]), rate),
        over_steps("Gradient norm before clipping", Axis::over("L2 norm", [0.0, 0.0]), norm),
    ];
    el("div").class("charts").children(charts).into()
}

/// The shares of positive pairs in the class loss and in its gradient.
fn shares(history: &History) -> Html {
    let of_loss = points(&history.steps, |line| line.positive_share);
    let of_gradient =
        points(&history.epochs, |line| line.ledger.as_ref().and_then(|ledger| ledger.positive_gradient_share));
    let of_epoch = points(&history.epochs, |line| line.ledger.as_ref().and_then(|ledger| ledger.positive_share));
    let series = vec![
        Series::new("of the class loss", of_loss),
        Series::new("of its gradient, mean of an epoch", of_gradient),
        Series::new("of the class loss, mean of an epoch", of_epoch),
    ];
    over_steps("Share of positive pairs", Axis::over("fraction", [0.0, 1.0]), series)
}

/// The share of each pyramid level in the class loss of an epoch.
fn levels(history: &History) -> Html {
    let breakdowns = || history.epochs.iter().filter_map(|line| Some((line.step as f64, line.ledger.as_ref()?)));
    let names: Vec<u32> =
        breakdowns().next().map_or_else(Vec::new, |(_, first)| first.levels.iter().map(|level| level.level).collect());
    let series = names.iter().map(|name| {
        let point = |(step, ledger): (f64, &super::history::Breakdown)| {
            let total: f64 = ledger.levels.iter().map(|level| level.positive_loss + level.negative_loss).sum();
            let own = ledger.levels.iter().find(|level| level.level == *name)?;
            (total > 0.0).then(|| [step, (own.positive_loss + own.negative_loss) / total])
        };
        Series::new(format!("P{name}"), breakdowns().filter_map(point).collect())
    });
    over_steps("Share of each pyramid level in the class loss", Axis::over("fraction", [0.0, 0.0]), series.collect())
}

/// A chart over the optimizer steps.
pub(super) fn over_steps(title: &str, y: Axis, series: Vec<Series>) -> Html {
    let series = series.into_iter().filter(|series| !series.points.is_empty()).collect();
    LineChart { title: title.to_owned(), x: Axis::new("optimizer step"), y, series }.html()
}
