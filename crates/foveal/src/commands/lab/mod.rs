//! `foveal lab`: trains several variants (arms) of a configuration and compares them.

mod arms;
mod budget;
mod figure;
mod report;
mod runs;
mod statistics;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_data::Dataset;
use foveal_eval::Matched;
use foveal_train::RunConfig;

use self::arms::ArmSet;
use self::budget::{Budget, Timed};
use self::report::{ArmResult, RareClass, Report, Share};
use self::runs::{Job, Record};
use self::statistics::Resamples;
use super::interrupt;
use crate::args::{Common, LabArgs};
use crate::console::note;
use crate::device::Picked;
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::outputs::Files;
use crate::{config, device, output};

/// The folder of labs without `--out`.
const LABS: &str = "labs";
/// The files that a lab writes into its folder.
const RESULTS: [&str; 4] = ["lab.json", "lab.md", "lab.svg", "lab.png"];
/// One class in this many counts as one of the rarest; at least one class does.
const RARE: usize = 3;

/// Trains the arms that are not finished, then compares all arms.
///
/// # Errors
/// If the configuration, the arms, the data or the weights cannot be used, or a file cannot be read or written.
pub(super) fn run(args: &LabArgs, common: &Common) -> Result<u8> {
    let mut lab = Lab::plan(args, common)?;
    lab.check_files(args)?;
    let picked = device::pick(&common.device)?;
    let train = lab.base.data.open_train()?.dataset;
    let val = lab.base.data.open_val_with(Some(train.label_map()))?.dataset;
    if val.is_empty() {
        bail!("the validation set contains no usable image");
    }
    let rare = rarest(&train);
    let stop = interrupt::flag()?;
    let budgeted = lab.take_budget(args.budget, &picked, &stop)?;
    let records = if budgeted { lab.train(&picked.device, &picked.name, &stop)? } else { None };
    let Some(records) = records else {
        note!("interrupted; run the same command again to continue");
        return Ok(INTERRUPTED);
    };
    let report = lab.compare(records, &val, &rare)?;
    let [json, markdown, svg, png] = RESULTS;
    let file = |name: &str| lab.out.join(name);
    output::write_json(&file(json), &report.json())?;
    output::write_file(&file(markdown), report.markdown(svg).as_bytes())?;
    for name in [svg, png] {
        figure::write(&report, &file(name))?;
    }
    note!("{}: wrote lab.json, lab.md, lab.svg and lab.png", lab.out.display());
    output::emit(args.json.as_deref(), &report.json(), &report.text())?;
    Ok(DONE)
}

/// The plan of a lab.
struct Lab {
    /// The configuration without the changes of an arm.
    base: RunConfig,
    /// The configuration file and the files that it extends.
    files: Vec<PathBuf>,
    /// The arms to compare.
    set: ArmSet,
    /// The seeds of each arm.
    seeds: Vec<u64>,
    /// The runs: all arms with the first seed, then all arms with the second seed, and so on.
    jobs: Vec<Job>,
    /// The folder of the runs and results.
    out: PathBuf,
    /// Number of bootstrap resamples.
    resamples: usize,
    /// The training time that all runs share, if there is one (`--budget`).
    budget: Option<Budget>,
}

impl Lab {
    /// Plans a run for every arm and seed. All configurations are checked before the first run starts.
    ///
    /// # Errors
    /// If the arguments or a configuration are invalid, or an arm has another validation set than the others.
    fn plan(args: &LabArgs, common: &Common) -> Result<Self> {
        let seeds = seeds(&args.seeds)?;
        let set = ArmSet::load(&args.arms, &args.only)?;
        let layers = config::layers(&args.config)?;
        let base = config::with_sets(layers.clone(), &common.set)?;
        if base.train.overfit > 0 {
            return Err(
                Usage("train.overfit: expected 0, because a lab compares on the validation set".to_owned()).into()
            );
        }
        let out = args.out.clone().unwrap_or_else(|| Path::new(LABS).join(format!("{}-{}", base.name, set.name)));
        // Relative paths in a file of arms are relative to the folder of the file.
        let folder = Path::new(&args.arms).parent().unwrap_or(Path::new(""));
        let mut jobs: Vec<Job> = Vec::new();
        for &seed in &seeds {
            for arm in &set.arms {
                let config = arm.resolve(&layers, &common.set, folder, seed)?;
                if config.data.more_train != base.data.more_train
                    && config.data.training_labels()? != base.data.training_labels()?
                {
                    bail!("arm {} changes the classes by data.more_train, but all arms must share them", arm.name);
                }
                if let Some(key) = other_validation(&base, &config) {
                    bail!("arm {} changes {key}, but all arms must share one validation set", arm.name);
                }
                let folder = out.join(&arm.name).join(format!("seed-{seed}"));
                let name = format!("arm {}, seed {seed}", arm.name);
                jobs.push(Job { config, folder, name, arm: arm.name.clone() });
            }
        }
        let files = config::files_of(&layers);
        Ok(Self { base, files, set, seeds, jobs, out, resamples: args.resamples as usize, budget: None })
    }

    /// Fits all runs to the time of `--budget`, for which the steps of each arm are timed. Without the option nothing
    /// changes. Returns false if interrupted.
    ///
    /// # Errors
    /// [`Usage`] if the folder contains a lab with another budget or with none; another error if an arm cannot be
    /// timed.
    fn take_budget(&mut self, minutes: Option<f64>, picked: &Picked, stop: &AtomicBool) -> Result<bool> {
        let Some(minutes) = minutes else {
            return match Budget::read(&self.out)? {
                None => Ok(true),
                Some(Budget { minutes, .. }) => {
                    let out = self.out.display();
                    let text =
                        format!("{out}: this lab was begun with --budget {minutes}; pass that, or another --out");
                    Err(Usage(text).into())
                }
            };
        };
        let first = self.jobs.iter().take(self.set.arms.len());
        let arms: Vec<Timed<'_>> = first.map(|job| Timed { name: &job.arm, config: &job.config }).collect();
        let device = (&picked.device, picked.name.as_str());
        let Some(budget) = Budget::plan(minutes, self.jobs.len(), &self.out, &arms, device, stop)? else {
            return Ok(false);
        };
        self.jobs.iter_mut().for_each(|job| budget.fit(&job.arm, &mut job.config));
        self.budget = Some(budget);
        Ok(true)
    }

    /// Checks that no file of the lab is one of its inputs.
    ///
    /// # Errors
    /// [`Usage`] if one is.
    fn check_files(&self, args: &LabArgs) -> Result<(), Usage> {
        let mut results = RESULTS.map(|name| self.out.join(name)).to_vec();
        if args.budget.is_some() {
            results.push(self.out.join(budget::FILE));
        }
        let runs: Vec<PathBuf> = self.jobs.iter().flat_map(Job::files).collect();
        // The name of a built-in set of arms is no file, and nothing is compared with it.
        let files = Files::new().read("configuration", &self.files).read("file of arms", [&args.arms]);
        let files = self.jobs.iter().fold(files, |files, job| files.read_named(&job.config));
        files.write("--out", &results).write("--out", &runs).write("--json", &args.json).check()?;
        // The lab's own figure is an image, and the folder of the images may be one above it.
        Files::new().read_config(&self.base).write("--json", &args.json).check()
    }

    /// Trains the runs that are not finished. Returns the outcomes of all runs, or `None` if interrupted.
    ///
    /// # Errors
    /// If a run fails for another reason than a loss that is not finite.
    fn train(&self, device: &Device, device_name: &str, stop: &AtomicBool) -> Result<Option<Vec<Record>>> {
        let known: Vec<Option<Record>> = self.jobs.iter().map(Job::record).collect::<Result<_>>()?;
        let (arms, seeds, runs) = (self.set.arms.len(), self.seeds.len(), self.jobs.len());
        let finished = known.iter().flatten().count();
        let out = self.out.display();
        note!("lab {out}: {arms} arms x {seeds} seeds, {finished} of {runs} runs are finished; device {device_name}");
        let mut records = Vec::with_capacity(runs);
        for (index, (job, known)) in self.jobs.iter().zip(known).enumerate() {
            if let Some(record) = known {
                records.push(record);
                continue;
            }
            note!("run {} of {runs}: {}", index + 1, job.name);
            let Some(record) = job.run(device, stop)? else { return Ok(None) };
            if let Record::Diverged { message, .. } = &record {
                note!(
                    "warning: {}: training diverged, which is recorded as the result of this run: {message}",
                    job.name
                );
            }
            records.push(record);
        }
        Ok(Some(records))
    }

    /// Computes metrics, intervals and loss shares of all arms.
    ///
    /// # Errors
    /// If the log or the detections of a run cannot be read.
    fn compare(&self, records: Vec<Record>, val: &Dataset, rare: &[(usize, usize)]) -> Result<Report> {
        let truth = val.coco();
        let categories = val.label_map().categories();
        // The metrics per category are in the order of ascending category ids.
        let mut ids: Vec<i64> = truth.categories.iter().map(|category| category.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let slot = |class: usize| ids.iter().position(|id| *id == categories[class].id);
        let slots: Vec<usize> = rare.iter().filter_map(|&(class, _)| slot(class)).collect();
        let count = self.set.arms.len();
        let mut arms: Vec<(Resamples, Share, Vec<f64>)> = Vec::with_capacity(count);
        for arm in 0..count {
            let (mut matched, mut parts, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
            for (job, record) in self.jobs.iter().zip(&records).skip(arm).step_by(count) {
                parts.extend(job.loss_parts()?);
                seconds.push(job.training_seconds()?);
                matched.push(match record {
                    Record::Finished { .. } => Some(Matched::new(truth, &job.detections()?)?),
                    Record::Diverged { .. } => None,
                });
            }
            arms.push((Resamples::new(&matched, &slots, self.resamples), Share::of(&parts), seconds));
        }
        let reference = self.set.arms.iter().position(|arm| arm.name == self.set.reference);
        let reference = reference.context("the reference arm is not among the arms")?;
        let results = arms.iter().enumerate().map(|(arm, (resampled, share, seconds))| ArmResult {
            records: records.iter().skip(arm).step_by(count).cloned().collect(),
            metrics: resampled.metrics(),
            difference: resampled.minus(&arms[reference].0),
            share: share.clone(),
            seconds: seconds.clone(),
        });
        let rarest = rare.iter().map(|&(class, objects)| RareClass { name: categories[class].name.clone(), objects });
        Ok(Report {
            config: self.base.name.clone(),
            set: self.set.clone(),
            seeds: self.seeds.clone(),
            images: truth.images.len(),
            resamples: self.resamples,
            rarest: rarest.collect(),
            budget: self.budget.clone(),
            arms: results.collect(),
        })
    }
}

/// Largest number of seeds of a lab.
const MAX_SEEDS: u64 = 1000;

/// Parses `--seeds`: `3` means the seeds 1, 2, 3; `5,9` means the seeds 5 and 9; `7,` means only the seed 7.
///
/// # Errors
/// [`Usage`] if the text is neither a number of seeds from 1 to 1000 nor a list of different seeds.
fn seeds(text: &str) -> Result<Vec<u64>> {
    let wrong =
        || Usage(format!("--seeds {text}: expected a number of seeds up to 1000, or a list of different seeds A,B,C"));
    let list = text.strip_suffix(',').unwrap_or(text);
    let numbers: Vec<u64> =
        list.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, Usage>>()?;
    let seeds = match numbers[..] {
        [count] if !text.contains(',') => (1..=count.min(MAX_SEEDS + 1)).collect(),
        _ => numbers,
    };
    let repeated = seeds.iter().enumerate().any(|(i, seed)| seeds[..i].contains(seed));
    if seeds.is_empty() || seeds.len() as u64 > MAX_SEEDS || repeated { Err(wrong().into()) } else { Ok(seeds) }
}

/// The key that gives an arm another validation set than the base configuration, if there is one.
fn other_validation(base: &RunConfig, arm: &RunConfig) -> Option<&'static str> {
    let different = [
        ("data.source", base.data.source != arm.data.source),
        ("data.val", base.data.val != arm.data.val),
        ("data.classes", base.data.classes != arm.data.classes),
        ("data.shapes", base.data.shapes != arm.data.shapes),
        ("train.overfit", arm.train.overfit > 0),
    ];
    different.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}

/// The classes with the fewest training objects, rarest first, as pairs of class index and number of objects.
fn rarest(train: &Dataset) -> Vec<(usize, usize)> {
    let mut objects: Vec<(usize, usize)> = train.objects_by_class().into_iter().enumerate().collect();
    objects.sort_by_key(|&(_, count)| count);
    objects.truncate(objects.len().div_ceil(RARE));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_or_a_list() {
        assert_eq!(seeds("3").unwrap(), [1, 2, 3]);
        assert_eq!(seeds("7, 2").unwrap(), [7, 2]);
        assert_eq!(seeds("7,").unwrap(), [7]);
        for wrong in ["0", "", ",", "1,1", "a", "-1", "1,,2"] {
            assert!(seeds(wrong).unwrap_err().is::<Usage>(), "{wrong}");
        }
    }
}
