//! Runs that end by themselves: `train.patience` and `train.time_limit`.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::config::BestBy;
use crate::run::{Best, EvaluationReport};

/// Keeps the messages of a run, and stops it where it is told to.
#[derive(Default)]
struct Listener<'a> {
    messages: Vec<String>,
    evaluations: usize,
    /// The flag that stops the run, and the step or the number of evaluations after which it is set.
    stop: Option<&'a AtomicBool>,
    stop_at_step: Option<u64>,
    stop_in_evaluation: bool,
    /// Whether the run is stopped when its time limit has given it a number of steps.
    stop_when_limited: bool,
    steps_of_run: Option<u64>,
}

impl Listener<'_> {
    fn stop_if(&self, due: bool) {
        if let Some(stop) = self.stop {
            stop.fetch_or(due, Ordering::Relaxed);
        }
    }
}

impl Progress for Listener<'_> {
    fn message(&mut self, text: &str) {
        self.messages.push(text.to_owned());
    }
    fn run_length(&mut self, steps: u64) {
        self.steps_of_run = Some(steps);
        self.stop_if(self.stop_when_limited);
    }
    fn step(&mut self, step: u64, _: Option<&StepRecord>) {
        self.stop_if(self.stop_at_step == Some(step));
    }
    fn evaluation_start(&mut self, _: usize) {
        self.stop_if(self.stop_in_evaluation);
    }
    fn evaluation(&mut self, _: &EvaluationReport<'_>) {
        self.evaluations += 1;
    }
}

fn go(config: &RunConfig, root: &Path, resume: bool, listener: &mut Listener<'_>) -> Outcome {
    let run = if resume { RunDir::resume(root).unwrap() } else { RunDir::create(root).unwrap() };
    let start = if resume { Start::Resume { allow_changes: false } } else { Start::New };
    let never = AtomicBool::new(false);
    let stop = listener.stop.unwrap_or(&never);
    train(config, &Device::flex(), &run, start, listener, stop).unwrap()
}

fn log(root: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root.join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A run of at most eight epochs that is evaluated after each, and for which no metric can gain enough: the first
/// evaluation is the only gain, and the run ends two evaluations later.
fn impatient() -> RunConfig {
    let mut config = tiny();
    (config.train.epochs, config.train.eval_every) = (8, 1);
    (config.train.patience, config.train.min_gain) = (2, 1.0);
    config
}

#[test]
fn a_run_without_gain_ends_and_says_why_and_goes_on_with_more_patience() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = impatient();
    let mut listener = Listener::default();
    let outcome = go(&config, &root, false, &mut listener);
    let Outcome::Finished(Summary { step: 12, best: Some(best), .. }) = outcome else { panic!("{outcome:?}") };
    let why = listener.messages.last().unwrap();
    let expected = "the run ends after epoch 3 of 8 (train.patience = 2): 2 evaluations have not been better than ";
    assert!(why.starts_with(expected) && why.contains("by more than 1 (train.min_gain)"), "{why}");
    assert!(why.ends_with("the value is AP (train.best_by)"), "{why}");
    let events = |event: &str| log(&root).into_iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    let ends = events("early_stop");
    assert_eq!((ends.len(), &ends[0]["epoch"], &ends[0]["evaluations"]), (1, &3.into(), &2.into()));

    // Resumed as it is, it has nothing to do; with more patience, it goes on for as many evaluations as are missing.
    let mut again = Listener::default();
    let outcome = go(&config, &root, true, &mut again);
    assert!(
        matches!(&outcome, Outcome::Finished(Summary { step: 12, best: Some(b), .. }) if *b == best),
        "{outcome:?}"
    );
    assert!(again.evaluations == 0 && again.messages.last() == Some(why), "{:?}", again.messages);
    config.train.patience = 4;
    let outcome = go(&config, &root, true, &mut again);
    assert!(matches!(outcome, Outcome::Finished(Summary { step: 20, .. })), "{outcome:?}");
    assert_eq!((again.evaluations, events("early_stop").len()), (2, 2));
}

#[test]
fn a_stopped_run_keeps_its_patience_and_compares_losses() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let mut config = impatient();
    (config.train.best_by, config.train.min_gain) = (BestBy::Loss, 1e6);
    let outcome = go(&config, &whole, false, &mut Listener::default());
    assert!(matches!(outcome, Outcome::Finished(Summary { step: 12, .. })), "{outcome:?}");
    // Stopped inside the second epoch, then in the evaluation after it.
    for (resume, stop_at_step, stop_in_evaluation) in [(false, Some(6), false), (true, None, true)] {
        let stop = AtomicBool::new(false);
        let mut listener = Listener { stop: Some(&stop), stop_at_step, stop_in_evaluation, ..Listener::default() };
        assert!(matches!(go(&config, &parts, resume, &mut listener), Outcome::Interrupted { .. }));
    }
    go(&config, &parts, true, &mut Listener::default());
    for file in ["state/evaluated.json", "checkpoints/best.safetensors", "checkpoints/last.safetensors", "metrics.csv"]
    {
        let bytes = |root: &Path| std::fs::read(root.join(file)).unwrap();
        assert!(bytes(&whole) == bytes(&parts), "{file} differs");
    }
    // The best evaluation is the one with the lowest loss.
    let evaluations: Vec<_> = log(&whole).into_iter().filter(|line| line["event"] == "evaluation").collect();
    let loss = |line: &serde_json::Value| line["losses"]["total"].as_f64().unwrap();
    let lowest = evaluations.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
    let Best { epoch, value, .. } = Evaluated::load(&whole.join("state/evaluated.json")).unwrap().best.unwrap();
    assert_eq!((epoch as u64, value), (lowest["epoch"].as_u64().unwrap(), Some(-loss(lowest))));
}

/// A run whose epochs take far longer than its limit, with a cosine.
fn limited(minutes: f64) -> RunConfig {
    let mut config = tiny();
    (config.train.epochs, config.train.eval_every, config.train.time_limit) = (100_000, 0, minutes);
    config.train.schedule = crate::ScheduleKind::Cosine;
    // The number of steps is not known. With the rate of `tiny`, the loss of some long runs becomes infinite.
    config.train.lr = 1e-3;
    config
}

/// The last learning rate of a run as a part of the largest one.
fn last_rate(root: &Path) -> f64 {
    let rates: Vec<f64> = log(root).iter().filter_map(|line| line["lr"].as_f64()).collect();
    rates.last().unwrap() / rates.iter().copied().fold(0.0, f64::max)
}

#[test]
fn a_run_ends_within_its_time_with_the_learning_rate_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let begun = Instant::now();
    let mut listener = Listener::default();
    let outcome = go(&limited(0.1), &root, false, &mut listener);
    let seconds = begun.elapsed().as_secs_f64();
    let Outcome::Finished(Summary { step, evaluation: Some(_), best, .. }) = outcome else { panic!("{outcome:?}") };
    assert!((4.0..6.6).contains(&seconds), "{seconds} s");
    assert_eq!(listener.steps_of_run, Some(step));
    assert!(last_rate(&root) < 0.01, "{}", last_rate(&root));
    assert!(best.is_some() && listener.evaluations == 1);
    let told = listener.messages.iter().find(|text| text.starts_with("train.time_limit: ")).unwrap();
    assert!(told.contains("0.1 minutes") && told.contains("cannot be reproduced"), "{told}");
    let lines = log(&root);
    let planned = lines.iter().rfind(|line| line["event"] == "time_limit").unwrap();
    assert!(planned["steps"] == step && planned["step_seconds"].as_f64().unwrap() > 0.0, "{planned}");
    // The evaluation inside an epoch is the end of this run, and it is not made again.
    let mut again = Listener::default();
    let outcome = go(&limited(0.1), &root, true, &mut again);
    assert!(matches!(outcome, Outcome::Finished(Summary { step: s, .. }) if s == step), "{outcome:?}");
    assert_eq!((again.evaluations, log(&root)), (0, lines));
}

#[test]
fn a_resumed_run_goes_on_with_what_is_left_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let config = limited(0.1);
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    let mut listener = Listener { stop: Some(&stop), stop_when_limited: true, ..Listener::default() };
    assert!(matches!(go(&config, &root, false, &mut listener), Outcome::Interrupted { .. }));
    let state = TrainState::load(&root.join("state/last.safetensors")).unwrap();
    let kept = state.meta.time_limit.unwrap();
    assert_eq!((kept.minutes, kept.steps), (0.1, listener.steps_of_run));
    assert!(kept.seconds > 0.0);
    // The last evaluation is interrupted too, and made when the run is resumed.
    let stop = AtomicBool::new(false);
    let mut listener = Listener { stop: Some(&stop), stop_in_evaluation: true, ..Listener::default() };
    assert!(matches!(go(&config, &root, true, &mut listener), Outcome::Interrupted { .. }));
    let mut listener = Listener::default();
    let outcome = go(&config, &root, true, &mut listener);
    let seconds = begun.elapsed().as_secs_f64();
    let Outcome::Finished(Summary { step, evaluation: Some(_), .. }) = outcome else { panic!("{outcome:?}") };
    assert!((4.0..7.0).contains(&seconds), "{seconds} s");
    let state = TrainState::load(&root.join("state/last.safetensors")).unwrap();
    assert_eq!(state.meta.time_limit.unwrap().steps, Some(step));
    assert!(listener.evaluations == 1 && last_rate(&root) < 0.01, "{}", last_rate(&root));
}

#[test]
fn a_run_that_is_shorter_than_its_limit_is_that_without_one() {
    let mut config = tiny();
    let without = run(&config);
    config.train.time_limit = 60.0;
    let with = run(&config);
    assert!(with.checkpoint == without.checkpoint && !with.checkpoint.is_empty(), "weights differ");
}
