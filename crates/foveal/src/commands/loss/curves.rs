//! Curves of loss and gradient over p_t, as in Figure 1 of arXiv 1708.02002.

use std::path::Path;

use anyhow::Result;
use foveal_criterion::PairLoss;

use crate::chart::{self, Axis, Chart, Curve, Lines};

/// The gammas of the paper's Figure 1.
const GAMMAS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 5.0];
/// Number of points of a curve.
const POINTS: usize = 300;
/// Upper end of the loss axis, as in the paper.
const LOSS_TOP: f64 = 5.0;
/// Upper end of the gradient axis; the highest gradient for these gammas is 1.32.
const SLOPE_TOP: f64 = 1.6;
/// Width and height of each chart in nominal pixels.
const SIZE: [u32; 2] = [460, 380];

/// Draws loss and gradient for the gammas of the paper and the given one into an `.svg` or `.png` file.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, gamma: f64) -> Result<()> {
    let mut gammas = GAMMAS.to_vec();
    if !gammas.contains(&gamma) {
        gammas.push(gamma);
        gammas.sort_by(f64::total_cmp);
    }
    let curves = |of: fn(&PairLoss, f64) -> f64| -> Vec<Curve> {
        let curve = |gamma: &f64| {
            let loss = PairLoss { positive_weight: 1.0, negative_weight: 1.0, gamma: *gamma };
            let name = if *gamma == 0.0 { "gamma 0 (cross entropy)".to_owned() } else { format!("gamma {gamma}") };
            let truth = |i| (i as f64 + 0.5) / POINTS as f64;
            Curve { name, points: (0..POINTS).map(|i| (truth(i), of(&loss, truth(i)))).collect() }
        };
        gammas.iter().map(curve).collect()
    };
    let chart = |title: &str, label: &str, top, curves| {
        Chart::Lines(Lines {
            title: title.to_owned(),
            x: Axis { label: "p_t, the probability of the correct answer".to_owned(), range: [0.0, 1.0] },
            y: Axis { label: label.to_owned(), range: [0.0, top] },
            curves,
        })
    };
    let charts = [
        chart("Loss of one pair, without alpha", "loss", LOSS_TOP, curves(PairLoss::positive)),
        chart("Gradient of one pair, without alpha", "|d loss / d logit|", SLOPE_TOP, curves(PairLoss::slope)),
    ];
    chart::write(path, &charts, SIZE[0], SIZE[1])
}
