//! What `foveal anchors fit` prints.

use std::fmt::Write as _;

use foveal_anchors::{AnchorConfig, CoverageSummary, LevelUse, MatcherKind};
use foveal_base::printable;
use foveal_data::{DataConfig, SetFit, SetFitOptions};
use foveal_train::RunConfig;

/// The values of the objective and what changes, with the reasons.
pub(super) fn result(config: &RunConfig, options: &SetFitOptions, found: &SetFit) -> String {
    let (before, after) = (&found.before, &found.after);
    let sample = if found.sampled < found.fit.after.objects {
        format!("; the search used {} of the objects, drawn with seed {}", found.sampled, options.seed)
    } else {
        String::new()
    };
    let mut text = format!(
        "{} objects, {} sets of anchors tried{sample}\n\n {:<26}  {:>7}  {:>7}\n {:<26}  {:>7.4}  {:>7.4}\n \
         {:<26}  {:>7.4}  {:>7.4}\n\n",
        after.objects,
        found.fit.tried,
        "objective",
        "before",
        "after",
        format!("share with IoU >= {}", options.anchors.iou),
        before.share(),
        after.share(),
        "mean of the best IoUs",
        before.mean_best_iou,
        after.mean_best_iou
    );
    let changes = changes(&config.data, &config.model.anchors, found);
    if changes.is_empty() {
        text += "Nothing better was found; the values stay as they are.\n\n";
    } else {
        let _ = writeln!(text, " {:<16}  {:>18}  {:>18}  why", "changed", "before", "after");
        for [key, before, after, why] in changes {
            let _ = writeln!(text, " {key:<16}  {before:>18}  {after:>18}  {why}");
        }
        text.push('\n');
    }
    text
}

/// Each value that changes: its name, the value before and after, and why.
fn changes(data: &DataConfig, anchors: &AnchorConfig, found: &SetFit) -> Vec<[String; 4]> {
    let mut changes = Vec::new();
    let mut add = |key: String, before: String, after: String, why: String| {
        if before != after {
            changes.push([key, before, after, why]);
        }
    };
    let fitted = &found.fit.anchors;
    let pixels = format!("{:.2} times the pixels", found.pixels);
    match (data.fixed_size, found.data.fixed_size) {
        (Some(before), Some(after)) => {
            add("fixed_size".to_owned(), format!("{before:?}"), format!("{after:?}"), pixels);
        }
        _ => {
            let sizes =
                [("min_size", data.min_size, found.data.min_size), ("max_size", data.max_size, found.data.max_size)];
            for (key, before, after) in sizes {
                add(key.to_owned(), before.to_string(), after.to_string(), pixels.clone());
            }
        }
    }
    let sizes = anchors.base_sizes.iter().zip(&fitted.base_sizes);
    for ((level, (before, after)), used) in (3..).zip(sizes).zip(&found.fit.levels) {
        let why = why_size(used, found.fit.after.objects);
        add(format!("base size of P{level}"), before.to_string(), after.to_string(), why);
    }
    let why = "its anchors fit the sizes of the objects better with other ratios".to_owned();
    add("scales".to_owned(), anchors.scales.to_string(), fitted.scales.to_string(), why);
    let [low, middle, high] = found.ratios;
    let why = format!("height / width of the objects: 10 % below {low:.2}, median {middle:.2}, 10 % above {high:.2}");
    add("ratios".to_owned(), list(&anchors.ratios), list(&fitted.ratios), why);
    changes
}

fn why_size(used: &LevelUse, objects: usize) -> String {
    let share = 100.0 * used.objects as f64 / objects.max(1) as f64;
    format!("the best anchor of {share:.1} % of the objects; median side {:.1} px", used.median_side)
}

fn list(values: &[f32]) -> String {
    let values: Vec<String> = values.iter().map(f32::to_string).collect();
    values.join(" ")
}

/// The coverage of each group before and after.
pub(super) fn coverage(before: &[(String, CoverageSummary)], after: &[(String, CoverageSummary)]) -> String {
    let pair = |title: &str| format!("  {title:>16}");
    let titles: String = ["IoU>=0.5", "best IoU", "matched", "no anchor"].map(pair).concat();
    let columns = format!("  {:>7} {:>8}", "before", "after").repeat(4);
    let mut text = format!(" {:<24}  {:>15}{titles}\n {:<24}  {:>15}{columns}\n", "", "", "objects", "count");
    for ((name, before), (_, after)) in before.iter().zip(after) {
        let count = if before.objects == after.objects {
            after.objects.to_string()
        } else {
            format!("{} -> {}", before.objects, after.objects)
        };
        let share = |s: &CoverageSummary| s.covered as f64 / s.objects.max(1) as f64;
        let _ = writeln!(
            text,
            " {:<24}  {count:>15}  {:>7.3} {:>8.3}  {:>7.3} {:>8.3}  {:>7.1} {:>8.1}  {:>7} {:>8}",
            printable(name),
            share(before),
            share(after),
            before.mean_best_iou,
            after.mean_best_iou,
            before.mean_matched,
            after.mean_matched,
            before.without_anchor,
            after.without_anchor
        );
    }
    text
}

/// What the change means for training, for the matcher and for weights that are trained already.
pub(super) fn remarks(config: &RunConfig, found: &SetFit) -> String {
    let mut text = String::new();
    if config.matcher.kind == MatcherKind::Atss {
        text += "With \"atss\", the candidates of an object are the anchors with the nearest centres, whatever their \
                 sizes and ratios. These\ndecide the IoUs of the candidates, from which the threshold of the object \
                 follows, and how much the boxes have to be\ncorrected. An object that no centre lies in gets no anchor, \
                 whatever the sizes.\n";
    }
    if found.after.share() > found.before.share() && found.after.mean_best_iou < found.before.mean_best_iou {
        text += "The mean of the best IoUs is lower than before: it only decides between anchors that cover as many objects.\n";
    }
    let [old, new] = [&config.model.anchors, &found.fit.anchors].map(AnchorConfig::anchors_per_location);
    if old != new {
        let _ = writeln!(
            text,
            "Anchors per location: {new}, before {old}. The weights of the heads in checkpoints with {old} do not fit; a \
             training starts from the backbone."
        );
        if found.before.is_better_than(&found.after) {
            text += "The coverage is lower than before, because the number of anchors was given.\n";
        }
    } else if config.model.anchors != found.fit.anchors {
        let _ = writeln!(
            text,
            "Anchors per location: {new}, as before. Weights of a checkpoint have the right shapes, but the heads were \
             trained for the\nanchors before."
        );
    }
    text
}
