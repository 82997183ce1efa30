//! `foveal init`: writes a commented configuration for a data set and a device.

mod data;
mod facts;
pub(super) mod paths;
mod plan;
mod settings;
mod timing;
mod write;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use foveal_base::printable;
use foveal_detector::StartPoint;
use foveal_train::{Bound, DeviceLimits, Room, RunConfig, TrainError, auto_batch, is_host};
use serde_json::json;

use super::interrupt;
use crate::args::{Common, InitArgs};
use crate::config;
use crate::console::note;
use crate::device::{self, Picked};
use crate::failure::{DONE, INTERRUPTED};
use crate::output;
use crate::outputs::Files;
use data::Sets;
use facts::{DataFacts, DeviceFacts, Facts, WeightFacts};
use plan::{Plan, decide};
use settings::{Given, provisional};

/// Most timings of a step before the plan is written.
const MOST_TIMINGS: usize = 3;

/// Measures the data set, the weights and the device, and writes a configuration with the reason for each setting.
///
/// # Errors
/// [`Usage`](crate::failure::Usage) for a wrong option; another error if a file exists and `--force` is not given, the
/// data, the weights or the device cannot be used, or a file cannot be written.
pub(super) fn run(args: &InitArgs, common: &Common) -> Result<u8> {
    let given = Given::of(common)?;
    let parts = Parts::beside(&args.output);
    let written: Vec<&Path> = match args.val {
        Some(_) => vec![&args.output],
        None => vec![&args.output, &parts.train, &parts.val],
    };
    Files::new()
        .read("annotation file", [&args.train])
        .read("annotation file", &args.val)
        .read("weight file", &args.weights)
        .read_images([Some(&args.images), args.val_images.as_ref()].into_iter().flatten())
        .write("-o", written.iter().copied())
        .write("--json", &args.json)
        .check()?;
    if let Some(exists) = written.iter().find(|path| !args.force && path.exists()) {
        bail!("{}: the file exists; expected a new file, or --force to overwrite it", exists.display());
    }

    let sets = Sets::open(args, &given)?;
    let weights = args.weights.as_deref().map(|path| weight_facts(path, &given)).transpose()?;
    let picked = device::pick(&common.device)?;
    let mut facts = Facts {
        data: DataFacts::of(&sets.train, &sets.symmetry(), sets.left_out, sets.duplicates),
        val: sets.val_facts(),
        weights,
        device: device_facts(&picked),
        minutes: args.minutes,
        timed: None,
        most_batch: None,
        epochs: given.epochs,
        seed: args.seed,
    };
    let Some(plan) = fitted(args, &given, &sets, &picked, &mut facts)? else {
        note!("interrupted; nothing was written");
        return Ok(INTERRUPTED);
    };

    output::create_parent(&args.output)?;
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let all = settings::complete(args, &given, &plan, &sets, folder, &parts)?;
    let head = head(args, &facts, &plan, &sets);
    if let Some([train, val]) = sets.parts() {
        train.write(&parts.train)?;
        val.write(&parts.val)?;
    }
    output::write_file(&args.output, write::text(&head, &all).as_bytes())?;
    // Reads the file as training will, so that a mistake is found here.
    config::load(Some(&args.output), &[])?;

    for warning in &plan.warnings {
        note!("warning: {warning}");
    }
    let json = json!({ "config": args.output, "facts": facts, "plan": plan, "settings": all });
    output::emit(args.json.as_deref(), &json, &summary(args, &head, &plan, &sets, &parts))?;
    Ok(DONE)
}

/// The files of a held-out validation set, beside the configuration.
struct Parts {
    train: PathBuf,
    val: PathBuf,
}

impl Parts {
    /// `mine-train.json` and `mine-val.json` for `mine.toml`.
    fn beside(config: &Path) -> Self {
        let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let of = |part: &str| config.with_file_name(format!("{stem}-{part}.json"));
        Self { train: of("train"), val: of("val") }
    }
}

/// What the weight file contains.
fn weight_facts(path: &Path, given: &Given) -> Result<WeightFacts> {
    Ok(match StartPoint::of(path, given.config.model.weights_convention)? {
        StartPoint::Backbone(found) => WeightFacts::Backbone {
            backbone: found.kind.name().to_owned(),
            norm: settings::text_of(&found.norm)?,
            bottleneck: found.kind.spec().block.expansion() > 1,
            present: found.present,
            missing: found.missing.len(),
        },
        StartPoint::Checkpoint(meta) => WeightFacts::Checkpoint {
            settings: settings::of_checkpoint(&meta)?,
            anchors_per_location: meta.model.anchors.anchors_per_location(),
        },
    })
}

fn device_facts(picked: &Picked) -> DeviceFacts {
    let is_cpu = is_host(&picked.device);
    let memory = match &picked.gpu {
        Some(gpu) => gpu.can.memory_bytes,
        None => device::main_memory().map(|memory| memory.free),
    };
    DeviceFacts { name: picked.name.clone(), is_cpu, threads: rayon::current_num_threads(), memory }
}

/// The largest batch that fits into the memory of the device; `None` if the memory is unknown or does not bound it.
fn most_batch(config: &RunConfig, picked: &Picked, facts: &Facts) -> Result<Option<usize>> {
    let room = match (facts.device.is_cpu, facts.device.memory) {
        (true, None) => return Ok(None),
        (true, Some(free)) => Room::Cpu { free },
        (false, _) => Room::Gpu(DeviceLimits::of(&picked.device)),
    };
    match auto_batch(config, room) {
        Ok(auto) => Ok(matches!(auto.bound, Bound::Memory | Bound::Tensor).then_some(auto.batch)),
        Err(TrainError::UnknownMemory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The plan, fitted to the time if it is limited: steps are timed until the plan has the size and the network that were
/// timed. `None` if interrupted.
fn fitted(args: &InitArgs, given: &Given, sets: &Sets, picked: &Picked, facts: &mut Facts) -> Result<Option<Plan>> {
    let mut plan = within_memory(args, given, picked, facts)?;
    if args.minutes.is_none() {
        return Ok(Some(plan));
    }
    let stop = interrupt::flag()?;
    for _ in 0..MOST_TIMINGS {
        let known = |t: &facts::Timed| (t.size, t.batch, t.network) == (plan.size, plan.batch, plan.network);
        if facts.timed.as_ref().is_some_and(known) {
            break;
        }
        note!("timing training steps of {} images, resized to {} px", plan.batch, plan.size);
        let config = provisional(args, given, &plan)?;
        let Some(timed) = timing::measure(&config, sets, &plan, facts, picked, &stop)? else { return Ok(None) };
        facts.timed = Some(timed);
        plan = within_memory(args, given, picked, facts)?;
    }
    Ok(Some(plan))
}

/// The plan with a batch that the memory of the device has room for.
fn within_memory(args: &InitArgs, given: &Given, picked: &Picked, facts: &mut Facts) -> Result<Plan> {
    facts.most_batch = most_batch(&provisional(args, given, &decide(facts))?, picked, facts)?;
    Ok(decide(facts))
}

/// The paragraphs at the head of the file: what the configuration was made from.
fn head(args: &InitArgs, facts: &Facts, plan: &Plan, sets: &Sets) -> Vec<String> {
    let data = &facts.data;
    let source = |path: &Path| printable(&path.display().to_string()).into_owned();
    let mut first = format!(
        "Written by foveal init {} from {}. Each setting stands below the reason for it; keys that are not here have \
         their defaults (foveal config --defaults).",
        env!("CARGO_PKG_VERSION"),
        source(&args.train)
    );
    if let Some(weights) = &args.weights {
        let _ = write!(first, " The network starts from {}.", source(weights));
    }
    let [_, p10, median, p90, _] = data.sides.map(|side| side * data.image_sides[1]);
    let mut second = format!(
        "{} training images ({} without objects) with {} objects of {} classes and {} crowd regions; {} validation \
         images{}. Shorter sides of the images: {:.0} px (median). Sides of the objects in such images: {p10:.0}, \
         {median:.0} and {p90:.0} px (10th percentile, median, 90th percentile); {:.0} % are small (area below 32x32 px) \
         in the original images, and {:.0} % after resizing. Objects in an image: {:.0} (median), at most {:.0}.",
        data.images,
        data.empty_images,
        data.objects,
        data.classes.len(),
        data.crowds,
        facts.val.images,
        if facts.val.held_out { ", held out by class" } else { "" },
        data.image_sides[1],
        100.0 * data.small_share,
        100.0 * sets.small_share(plan.size, plan.max_size),
        data.objects_per_image[0],
        data.objects_per_image[2],
    );
    if data.duplicates > 0 {
        let _ = write!(second, " {} images are copies of others, and are in the same part as these.", data.duplicates);
    }
    let classes = data
        .classes
        .iter()
        .take(20)
        .map(|class| format!("{} {} on {} images", printable(&class.name), class.objects, class.images));
    let more = if data.classes.len() > 20 { ", …" } else { "" };
    let third = format!("Training objects by class: {}{more}.", classes.collect::<Vec<_>>().join(", "));
    let mut paragraphs = vec![first, second, third];
    paragraphs.extend(plan.warnings.iter().map(|warning| format!("Warning: {warning}.")));
    paragraphs
}

/// The text on stdout.
fn summary(args: &InitArgs, head: &[String], plan: &Plan, sets: &Sets, parts: &Parts) -> String {
    let config = args.output.display();
    let mut text = head[1..].join("\n") + "\n\n";
    let _ = writeln!(text, " images      {} px shorter side, at most {} px longer side", plan.size, plan.max_size);
    let _ = writeln!(
        text,
        " training    {} epochs of {} steps with {} images, {} images in all",
        plan.epochs,
        plan.steps / plan.epochs.max(1),
        plan.batch,
        plan.images_seen
    );
    if let Some(seconds) = plan.seconds {
        let _ = writeln!(text, " time        {:.1} minutes expected, with evaluations", seconds / 60.0);
    }
    if sets.parts().is_some() {
        let _ = writeln!(text, " parts       {} and {}", parts.train.display(), parts.val.display());
    }
    let _ = writeln!(text, " written     {config}\n\nTo train: foveal train {config}");
    text
}

#[cfg(test)]
mod tests;
