//! `foveal loss share`: the positives' share of the loss and of the gradient, for given counts and probabilities.

use anyhow::Result;
use foveal_criterion::{PairLoss, Scores};
use serde_json::json;

use super::curves;
use crate::args::ShareArgs;
use crate::chart;
use crate::console::note;
use crate::failure::DONE;
use crate::output::{self, significant};
use crate::outputs::Files;

/// Significant digits of the positives' share of the loss.
const SHARE_DIGITS: usize = 7;
/// Significant digits of the positives' share of the gradient.
const GRADIENT_DIGITS: usize = 4;
/// Significant digits of all other numbers.
const DIGITS: usize = 7;
/// Numbers below this are written with an exponent.
const FIXED_FROM: f64 = 1e-4;

/// Prints the table, and writes the JSON file and the curves if they are requested.
///
/// # Errors
/// [`Usage`](crate::failure::Usage) if the file name of `--draw` ends in neither `.svg` nor `.png`; another error if a
/// file cannot be written.
pub(super) fn run(args: &ShareArgs) -> Result<u8> {
    if let Some(path) = &args.draw {
        chart::check_name(path)?;
    }
    Files::new().write("--draw", &args.draw).write("--json", &args.json).check()?;
    let (alpha, gamma) = (args.weighting.alpha, args.weighting.gamma);
    let scores = Scores {
        positives: args.positives,
        negatives: args.negatives,
        of_positives: args.p_positive,
        of_negatives: 1.0 - args.p_negative,
    };
    let losses = [
        ("cross entropy", PairLoss::cross_entropy()),
        ("balanced", PairLoss::balanced(alpha)),
        ("focal", PairLoss::focal(alpha, gamma)),
    ];
    let mut table = format!(
        " {} positives at p_t {}, {} negatives at p_t {}; alpha {alpha}, gamma {gamma}\n\n",
        args.positives, args.p_positive, args.negatives, args.p_negative
    );
    table += &format!(
        " {:<14}{:>14}{:>14}{:>14}{:>14}{:>18}{:>19}\n",
        "loss", "one positive", "one negative", "positives", "negatives", "positives' share", "share of gradient"
    );
    let number = |value| significant(value, DIGITS, FIXED_FROM);
    let mut shares = Vec::new();
    for (name, loss) in losses {
        let sums = loss.sums(&scores);
        shares.push(sums.positive_share());
        table += &format!(
            " {name:<14}{:>14}{:>14}{:>14}{:>14}{:>18}{:>19}\n",
            number(loss.positive(scores.of_positives)),
            number(loss.negative(scores.of_negatives)),
            number(sums.positive),
            number(sums.negative),
            significant(sums.positive_share(), SHARE_DIGITS, FIXED_FROM),
            significant(loss.gradients(&scores).positive_share(), GRADIENT_DIGITS, FIXED_FROM),
        );
    }
    let json = json!({"cross_entropy": shares[0], "balanced": shares[1], "focal": shares[2]});
    if let Some(path) = &args.draw {
        curves::write(path, gamma)?;
        note!("{}: curves of the loss and the gradient against p_t", path.display());
    }
    output::emit(args.json.as_deref(), &json, &table)?;
    Ok(DONE)
}
