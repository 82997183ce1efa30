//! `foveal loss prior`: the loss before the first update.

use anyhow::Result;
use foveal_criterion::{PairLoss, prior_bias};
use serde_json::{Value, json};

use crate::args::PriorArgs;
use crate::failure::{DONE, Usage};
use crate::output::{self, significant};

/// Significant digits of the positives' share.
const SHARE_DIGITS: usize = 6;
/// Significant digits of the loss.
const LOSS_DIGITS: usize = 7;
/// Numbers below this are written with an exponent.
const FIXED_FROM: f64 = 1e-2;

/// Prints a row for each prior and loss.
///
/// # Errors
/// [`Usage`] if there are more positives than anchors; another error if a file cannot be written.
pub(super) fn run(args: &PriorArgs) -> Result<u8> {
    if args.positives > args.anchors {
        let text = format!("--positives {}: expected at most --anchors {}", args.positives, args.anchors);
        return Err(Usage(text).into());
    }
    let (alpha, gamma) = (args.weighting.alpha, args.weighting.gamma);
    let losses = [
        ("cross entropy".to_owned(), PairLoss::cross_entropy()),
        ("cross entropy x 0.5".to_owned(), PairLoss::balanced(0.5)),
        (format!("balanced ({alpha})"), PairLoss::balanced(alpha)),
        (format!("focal ({alpha}, {gamma})"), PairLoss::focal(alpha, gamma)),
    ];
    let mut table = format!(
        " {} anchors, {} of them positive, {} classes; every score equals pi\n\n",
        args.anchors, args.positives, args.classes
    );
    table +=
        &format!(" {:>8}{:>12}   {:<22}{:>18}{:>18}\n", "pi", "bias", "loss", "positives' share", "loss / positives");
    let mut rows: Vec<Value> = Vec::new();
    for &pi in &args.pi {
        let bias = prior_bias(pi);
        for (name, loss) in &losses {
            let sums = loss.at_prior(pi, args.anchors, args.classes, args.positives);
            let (share, each) = (sums.positive_share(), sums.total() / args.positives);
            table += &format!(
                " {pi:>8}{:>12}   {name:<22}{:>18}{:>18}\n",
                // The bias of prior 0.5 is 0, which has no significant digit.
                format!("{bias:.5}").replace("-0.00000", "0.00000"),
                significant(share, SHARE_DIGITS, FIXED_FROM),
                significant(each, LOSS_DIGITS, FIXED_FROM),
            );
            rows.push(json!({
                "pi": pi, "bias": bias, "loss": name, "positive_weight": loss.positive_weight,
                "negative_weight": loss.negative_weight, "gamma": loss.gamma,
                "positive_share": share, "loss_per_positive": each,
            }));
        }
    }
    let json = json!({
        "anchors": args.anchors, "positives": args.positives, "classes": args.classes, "rows": rows,
    });
    output::emit(args.json.as_deref(), &json, &table)?;
    Ok(DONE)
}
