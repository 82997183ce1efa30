//! `foveal anchors fit`: fits anchors, and the size of the network's input, to the training set.

use anyhow::{Result, bail};
use foveal_anchors::{AnchorConfig, FitOptions, FitScore};
use foveal_data::{DataConfig, Opened, SetCoverage, SetFitOptions, fit_set};
use foveal_train::RunConfig;
use serde_json::{Map, Value, json};

use super::{as_json, fragment, named, tables};
use crate::args::{Common, FitArg, FitArgs};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::failure::{DONE, Usage};
use crate::output;
use crate::outputs::Files;

/// Factor by which the pixels of the padded images may grow, unless `--max-pixels` is given.
const MAX_PIXELS: f64 = 2.0;

/// Fits anchors to the training set, prints what changes and why, and writes it as a configuration.
///
/// # Errors
/// [`Usage`] for options that contradict each other; another error if the configuration or the data cannot be used, or
/// a file cannot be written.
pub(super) fn run(args: &FitArgs, common: &Common) -> Result<u8> {
    check(args)?;
    let Loaded { config, files } = config::open(Some(&args.config), &common.set)?;
    Files::new()
        .read("configuration", &files)
        .read_config(&config)
        .write("--output", &args.output)
        .write("--json", &args.json)
        .check()?;
    let options = options(args, &config)?;
    let Opened { dataset, report } = config.data.open_train()?;
    if !report.is_clean() {
        note!("warning: {}: {}", report.set, report.summary());
    }
    warn_of_other_sizes(&config.data);
    let found = fit_set(&dataset, &config.data, &config.model.anchors, &options);
    let coverage =
        |data: &DataConfig, anchors: &AnchorConfig| SetCoverage::new(&dataset, data, anchors, &config.matcher);
    let before = coverage(&config.data, &config.model.anchors);
    let same = found.data == config.data && found.fit.anchors == config.model.anchors;
    let after = if same { before.clone() } else { coverage(&found.data, &found.fit.anchors) };

    if after.all.without_anchor > before.all.without_anchor {
        note!(
            "warning: {} objects have no anchor that is trained to detect them, before {}",
            after.all.without_anchor,
            before.all.without_anchor
        );
    }
    let fragment = fragment::text(args, &common.set, &config.data, &found)?;
    let groups = |coverage| named(coverage, dataset.label_map());
    let mut text = tables::result(&config, &options, &found);
    text += &tables::coverage(&groups(&before), &groups(&after));
    text += &super::legend(&config.matcher);
    text += &tables::remarks(&config, &found);
    match &args.output {
        Some(path) => {
            output::write_file(path, fragment.as_bytes())?;
            text += &format!("\nTo train with it: foveal train {}\n", path.display());
        }
        None => text += &format!("\nConfiguration (-o FILE writes it):\n\n{fragment}"),
    }
    let groups_json = |coverage| -> Map<String, Value> {
        groups(coverage).iter().map(|(name, summary)| (name.clone(), as_json(summary))).collect()
    };
    let [before, after] = [&before, &after].map(groups_json);
    let value = json!({
        "changed": !same,
        "objective": {
            "iou": options.anchors.iou,
            "before": score_json(&found.before),
            "after": score_json(&found.after),
        },
        "anchors": { "before": config.model.anchors, "after": found.fit.anchors },
        "input": { "before": input_json(&config.data), "after": input_json(&found.data), "pixels": found.pixels },
        "levels": found.fit.levels,
        "before": before,
        "after": after,
        "search": { "seed": options.seed, "objects": found.sampled, "tried": found.fit.tried },
        "fragment": fragment,
    });
    output::emit(args.json.as_deref(), &value, &text)?;
    Ok(DONE)
}

/// Checks that the options fit together.
///
/// # Errors
/// [`Usage`] if an option needs a part that `--what` does not name.
fn check(args: &FitArgs) -> Result<(), Usage> {
    let needs = |option: &str, part: FitArg, name: &str| {
        let text = format!("{option}: expected {name} among the parts of --what, because this option changes it");
        if args.what.contains(&part) { Ok(()) } else { Err(Usage(text)) }
    };
    if args.ratios.is_some() {
        needs("--ratios", FitArg::Ratios, "ratios")?;
    }
    if args.scales.is_some() {
        needs("--scales", FitArg::Scales, "scales")?;
    }
    if args.max_pixels.is_some() {
        needs("--max-pixels", FitArg::Input, "input")?;
    }
    if args.what.contains(&FitArg::Scales) && !args.what.contains(&FitArg::Ratios) && args.scales.is_none() {
        let text = "--what scales: expected ratios too, because the number of anchors per location stays the same, or \
                    --scales N, which changes it";
        return Err(Usage(text.to_owned()));
    }
    Ok(())
}

/// What may change.
///
/// # Errors
/// If the size of the input is to be fitted, and training takes its size from the augmentation.
fn options(args: &FitArgs, config: &RunConfig) -> Result<SetFitOptions> {
    let may = |part| args.what.contains(&part);
    if may(FitArg::Input)
        && let Some(key) = other_sizes(&config.data)
    {
        bail!(
            "--what input: expected a configuration whose training images have the size of data.min_size or \
             data.fixed_size, found {key}, which gives them another one; fit only the anchors, or remove it"
        );
    }
    let anchors = FitOptions {
        sizes: may(FitArg::Sizes),
        ratios: may(FitArg::Ratios),
        scales: may(FitArg::Scales),
        scale_count: args.scales.map(usize::from),
        ratio_count: args.ratios.map(usize::from),
        iou: args.iou,
    };
    let max_pixels = may(FitArg::Input).then(|| args.max_pixels.unwrap_or(MAX_PIXELS));
    Ok(SetFitOptions { anchors, max_pixels, seed: args.seed.unwrap_or(config.train.seed) })
}

/// The key of the augmentation that decides the size of training images, if there is one.
fn other_sizes(data: &DataConfig) -> Option<&'static str> {
    if data.augment.fixed_canvas().is_some() {
        Some("large_scale_jitter in data.augment.transforms")
    } else if !data.augment.min_sizes.is_empty() {
        Some("data.augment.min_sizes")
    } else {
        None
    }
}

/// Warns if training images have other sizes than those that anchors are fitted to.
fn warn_of_other_sizes(data: &DataConfig) {
    if let Some(key) = other_sizes(data) {
        note!(
            "warning: the anchors are fitted to images without augmentation; {key} gives training images other sizes"
        );
    }
}

fn score_json(score: &FitScore) -> Value {
    json!({
        "objects": score.objects,
        "covered": score.covered,
        "share": score.share(),
        "mean_best_iou": score.mean_best_iou,
    })
}

fn input_json(data: &DataConfig) -> Value {
    json!({ "min_size": data.min_size, "max_size": data.max_size, "fixed_size": data.fixed_size })
}
