//! `foveal lab --budget`: every run of a lab gets the same training time.
//!
//! The minutes are divided equally among the runs. Before the first run, the steps of each arm are timed, and the share
//! of a run is turned into a number of steps. Each run makes exactly that number, with its whole schedule fitted to it,
//! so that a run depends on its configuration alone and can be repeated. The file `budget.json` keeps the numbers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_train::RunConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::runs::difference;
use crate::commands::probe::{self, Timing};
use crate::console::note;
use crate::failure::Usage;
use crate::output;

/// File name of the budget in the folder of a lab.
pub(super) const FILE: &str = "budget.json";
/// Fewest steps of a run. A shorter one is not worth comparing.
const FEWEST_STEPS: u64 = 10;
/// Most steps of a run, more than any share of time holds.
const MOST_STEPS: f64 = 1e12;

/// The training time of a lab, and what each arm does with its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    /// Minutes of training of all runs together (`--budget`).
    pub minutes: f64,
    /// Seconds of training of each run: the minutes divided by the number of runs with which the lab began.
    pub run_seconds: f64,
    /// The device that the steps were timed on.
    pub device: String,
    /// Number of threads that computed.
    pub threads: usize,
    /// The arms that were timed.
    pub arms: Vec<ArmBudget>,
}

/// What an arm does with its share of a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArmBudget {
    /// Name of the arm.
    pub name: String,
    /// Mean duration of a step in seconds, including the loading of its images.
    pub step_seconds: f64,
    /// Number of steps that were timed.
    pub timed_steps: u64,
    /// Number of optimizer steps in an epoch.
    pub steps_per_epoch: usize,
    /// Number of optimizer steps of each run of the arm: those that fit into its share of the time.
    pub steps: u64,
    /// The configuration of the arm that was timed, without a seed.
    config: Value,
}

/// An arm of a lab whose steps are to be timed.
pub(super) struct Timed<'a> {
    /// Name of the arm.
    pub name: &'a str,
    /// Configuration of the arm with any seed, before it is fitted to a budget.
    pub config: &'a RunConfig,
}

impl Budget {
    /// The budget of the lab in `folder`: that of its file, with the arms that the file lacks timed now. Otherwise
    /// `minutes` are divided among `runs` runs, and all arms are timed. `None` if interrupted.
    ///
    /// # Errors
    /// [`Usage`] if the lab has another budget or the minutes are too few; another error if an arm cannot be trained,
    /// has another configuration than the one timed before, or a file cannot be read or written.
    pub(super) fn plan(
        minutes: f64,
        runs: usize,
        folder: &Path,
        arms: &[Timed<'_>],
        (device, device_name): (&Device, &str),
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let threads = rayon::current_num_threads();
        let mut budget = match Self::read(folder)? {
            Some(kept) => kept.continued(minutes, runs, device_name, threads, folder)?,
            None => {
                let run_seconds = 60.0 * minutes / runs as f64;
                Self { minutes, run_seconds, device: device_name.to_owned(), threads, arms: Vec::new() }
            }
        };
        let mut missing = Vec::new();
        for arm in arms {
            match budget.arms.iter().find(|kept| kept.name == arm.name) {
                Some(kept) => kept.same_config(arm, folder)?,
                None => missing.push(arm),
            }
        }
        for arm in &missing {
            let timing = probe::time(arm.config, folder, device, stop).with_context(|| format!("arm {}", arm.name))?;
            let Some(timing) = timing else { return Ok(None) };
            let arm = ArmBudget::new(arm, timing, &budget)?;
            note!(
                "arm {}: {:.3} s a step, so that each run makes {} steps ({:.2} epochs) in {:.1} s",
                arm.name,
                arm.step_seconds,
                arm.steps,
                arm.epochs(),
                budget.run_seconds
            );
            budget.arms.push(arm);
        }
        if !missing.is_empty() {
            output::write_json(&folder.join(FILE), &budget)?;
        }
        Ok(Some(budget))
    }

    /// Reads the budget of the lab in `folder`; `None` if it has none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let invalid = || format!("{}: expected the budget of a lab; choose another --out", path.display());
        serde_json::from_str(&text).map(Some).with_context(invalid)
    }

    /// This budget, with which a lab goes on.
    fn continued(self, minutes: f64, runs: usize, device: &str, threads: usize, folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if self.minutes != minutes {
            let text = format!(
                "--budget {minutes}: the lab in {} was begun with --budget {}; pass that, or choose another --out",
                folder.display(),
                self.minutes
            );
            return Err(Usage(text).into());
        }
        if (self.device.as_str(), self.threads) != (device, threads) {
            note!(
                "warning: {}: the steps were timed on {} with {} threads, and the lab goes on on {device} with {threads}; \
                 each run keeps its number of steps",
                path.display(),
                self.device,
                self.threads
            );
        }
        if self.run_seconds * runs as f64 > 60.0 * minutes * (1.0 + 1e-9) {
            note!(
                "{}: the {minutes} minutes were divided when the lab began; each run keeps its {:.1} s of training",
                path.display(),
                self.run_seconds
            );
        }
        Ok(self)
    }

    /// Fits the configuration of a run of the arm `name` to the budget.
    pub(super) fn fit(&self, name: &str, config: &mut RunConfig) {
        if let Some(arm) = self.arms.iter().find(|arm| arm.name == name) {
            fit(config, arm.steps, arm.steps_per_epoch);
        }
    }

    /// The budget for the result of a lab.
    pub(super) fn json(&self) -> Value {
        let arm = |arm: &ArmBudget| {
            json!({
                "name": arm.name, "step_seconds": arm.step_seconds, "timed_steps": arm.timed_steps,
                "steps_per_epoch": arm.steps_per_epoch, "steps": arm.steps, "epochs": arm.epochs(),
            })
        };
        json!({
            "minutes": self.minutes, "run_seconds": self.run_seconds, "device": self.device, "threads": self.threads,
            "arms": self.arms.iter().map(arm).collect::<Vec<_>>(),
        })
    }
}

impl ArmBudget {
    /// The steps of an arm that fit into its share of `budget`.
    ///
    /// # Errors
    /// [`Usage`] if these are too few.
    fn new(arm: &Timed<'_>, timing: Timing, budget: &Budget) -> Result<Self> {
        let Timing { step_seconds, steps: timed_steps, steps_per_epoch, .. } = timing;
        let steps = (budget.run_seconds / step_seconds).floor().min(MOST_STEPS) as u64;
        if steps < FEWEST_STEPS {
            let share = budget.run_seconds / budget.minutes;
            let text = format!(
                "--budget {}: each run gets {:.1} s, in which the arm {} makes {steps} steps of {step_seconds:.2} s; expected \
                 time for at least {FEWEST_STEPS} steps, which is --budget {:.2} or more",
                budget.minutes,
                budget.run_seconds,
                arm.name,
                FEWEST_STEPS as f64 * step_seconds / share
            );
            return Err(Usage(text).into());
        }
        let config = fingerprint(arm.config)?;
        Ok(Self { name: arm.name.to_owned(), step_seconds, timed_steps, steps_per_epoch, steps, config })
    }

    /// Number of epochs of each run.
    fn epochs(&self) -> f64 {
        self.steps as f64 / self.steps_per_epoch as f64
    }

    /// Checks that the arm still has the configuration that was timed.
    fn same_config(&self, arm: &Timed<'_>, folder: &Path) -> Result<()> {
        let path: PathBuf = folder.join(FILE);
        match difference("", &self.config, &fingerprint(arm.config)?) {
            None => Ok(()),
            Some(key) => bail!(
                "{}: the steps of the arm {} were timed with another configuration ({key}); choose another --out or \
                 remove the folder",
                path.display(),
                self.name
            ),
        }
    }
}

/// A configuration as JSON, without its seed.
fn fingerprint(config: &RunConfig) -> Result<Value> {
    let mut config = config.clone();
    config.train.seed = 0;
    serde_json::to_value(&config).context("the configuration cannot be converted to JSON")
}

/// Fits the whole schedule of a configuration to a number of optimizer steps. The network is evaluated only at the end,
/// because a lab compares the last weights.
fn fit(config: &mut RunConfig, steps: u64, steps_per_epoch: usize) {
    config.fit_to_steps(steps, steps_per_epoch, config.train.epochs as f64);
    (config.train.eval_every, config.train.time_limit) = (0, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_steps_of_its_arm_and_one_evaluation() {
        let mut config = RunConfig::default();
        (config.train.epochs, config.train.eval_every) = (12, 3);
        fit(&mut config, 150, 50);
        assert_eq!((config.train.epochs, config.train.max_steps, config.train.eval_every), (3, 150, 0));
    }

    #[test]
    fn every_arm_gets_the_same_time() {
        let config = RunConfig::default();
        let budget =
            Budget { minutes: 2.0, run_seconds: 20.0, device: "flex".to_owned(), threads: 2, arms: Vec::new() };
        let arm = |name, step_seconds| {
            let timing = Timing { step_seconds, steps: 9, steps_per_epoch: 30, start_seconds: 1.0 };
            ArmBudget::new(&Timed { name, config: &config }, timing, &budget)
        };
        let (fast, slow) = (arm("fast", 0.1).unwrap(), arm("slow", 0.3).unwrap());
        assert_eq!((fast.steps, slow.steps), (200, 66));
        assert!((fast.epochs() - 200.0 / 30.0).abs() < 1e-12);
        // Fewer than ten steps are refused with the budget that has them: ten steps of 4 s in each of six runs.
        let text = arm("huge", 4.0).unwrap_err().to_string();
        assert!(text.contains("arm huge makes 5 steps") && text.contains("--budget 4.00 or more"), "{text}");
        // Another seed is the same configuration, another learning rate is not.
        let mut other = config.clone();
        other.train.seed = 5;
        fast.same_config(&Timed { name: "fast", config: &other }, Path::new("lab")).unwrap();
        other.train.lr = 0.5;
        let text = fast.same_config(&Timed { name: "fast", config: &other }, Path::new("lab")).unwrap_err().to_string();
        assert!(text.contains("budget.json") && text.contains("train.lr: found 0.01, expected 0.5"), "{text}");
    }
}
