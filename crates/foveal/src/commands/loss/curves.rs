//! Loss and gradient by p_t, as in Figure 1 of arXiv 1708.02002.

use std::path::Path;

use anyhow::Result;
use foveal_criterion::PairLoss;

use crate::chart::{self, Axis, Chart, Curve, Lines};

/// The paper's gammas.
const GAMMAS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 5.0];
/// Points of a curve.
const POINTS: usize = 300;
/// Tops of the two axes: the paper's for the loss; above the highest gradient of these gammas, 1.32.
const LOSS_TOP: f64 = 5.0;
const SLOPE_TOP: f64 = 1.6;
/// Pixels of each chart.
const SIZE: [u32; 2] = [460, 380];

/// Draws both for the paper's gammas and the given one.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, gamma: f64) -> Result<()> {
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
            x: Axis { label: "p_t, the probability given to the truth".to_owned(), range: [0.0, 1.0] },
            y: Axis { label: label.to_owned(), range: [0.0, top] },
            curves,
        })
    };
    let charts = [
        chart("Loss of one pair, without alpha", "loss", LOSS_TOP, curves(PairLoss::positive)),
        chart("Its gradient", "|d loss / d logit|", SLOPE_TOP, curves(PairLoss::slope)),
    ];
    chart::write(path, &charts, SIZE[0], SIZE[1])
}
