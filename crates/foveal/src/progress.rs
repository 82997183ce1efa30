//! Progress on stderr: bars on a terminal, lines elsewhere. Neither ends a run when it cannot be written.

mod evaluations;
mod on_epoch;
mod picture;
mod records;
mod time_left;
mod tuning;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foveal_train::{DrawnDetection, EpochStart, EvaluationReport, Picture, Progress, RgbImage, StepRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::console::{self, is_quiet, note};
use crate::failure;
use crate::report::StartRecord;
use evaluations::Evaluations;
use records::Records;
use time_left::TimeLeft;
use tuning::Tuning;

/// Time between two progress lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(20);
/// Template of a bar; the message holds the losses, the learning rate, the speed and the time left for the run.
const TEMPLATE: &str = "{prefix} {bar:24} {pos}/{len} {msg} [{elapsed_precise}, {eta} left]";

/// Shows the progress of training and evaluation on stderr.
pub(crate) struct Console {
    terminal: bool,
    bar: Option<ProgressBar>,
    prefix: String,
    steps: usize,
    done: usize,
    status: String,
    last_line: Instant,
    tuning: Option<Tuning>,
    time_left: TimeLeft,
    evaluations: Evaluations,
    /// The command of `train.on_epoch`.
    on_epoch: Option<String>,
    /// What is written into the folder of the run beside the files of the training.
    records: Option<Records>,
}

impl Console {
    /// Creates a console that shows bars if stderr is a terminal, and lines otherwise; with `--quiet`, only warnings.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal() && !is_quiet(),
            bar: None,
            prefix: String::new(),
            steps: 0,
            done: 0,
            status: String::new(),
            last_line: Instant::now(),
            tuning: None,
            time_left: TimeLeft::default(),
            evaluations: Evaluations::default(),
            on_epoch: None,
            records: None,
        }
    }

    /// Sets the command of the shell that runs after each epoch.
    pub(crate) fn run_on_epoch(&mut self, command: Option<String>) {
        self.on_epoch = command;
    }

    /// Takes over the earlier evaluations of a run that goes on, from its `metrics.csv`.
    pub(crate) fn read_evaluations(&mut self, metrics: &Path) {
        self.evaluations = Evaluations::read(metrics);
    }

    /// Records the start of this process and the reports of the run in a folder, when the training begins and after
    /// each evaluation.
    pub(crate) fn record_in(&mut self, root: PathBuf, start: StartRecord) {
        self.records = Some(Records::new(root, start));
    }

    /// Does something with the records of the run, if there are any, and shows what could not be done.
    fn with_records(&mut self, work: fn(&mut Records) -> Vec<String>) {
        let warnings = self.records.as_mut().map_or_else(Vec::new, work);
        for warning in warnings {
            self.line(&format!("warning: {warning}"));
        }
    }

    fn start(&mut self, prefix: String, steps: usize) {
        self.finish();
        self.prefix = prefix;
        self.steps = steps;
        self.done = 0;
        self.status.clear();
        self.last_line = Instant::now();
        if self.terminal {
            let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_prefix(self.prefix.clone());
            // indicatif draws nothing on a terminal that cannot move its cursor; lines are shown there.
            self.bar = (!bar.is_hidden()).then_some(bar);
        }
    }

    fn advance(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.status.clone());
                bar.inc(1);
            }
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                note!("{} {}/{} {}", self.prefix, self.done, self.steps, self.status);
            }
            None => {}
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| console::line(text)),
            None => console::line(text),
        }
    }
}

impl Progress for Console {
    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn tuning_start(&mut self) {
        // The bar of the epoch would be drawn between the lines.
        if let Some(bar) = &self.bar {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.tuning = Some(Tuning::start(self.terminal));
    }

    fn tuning_end(&mut self, seconds: f64) {
        self.tuning = None;
        failure::forget_device_report();
        if let Some(bar) = &self.bar {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.line(&format!("the first step, with tuning, took {seconds:.1} s"));
    }

    fn device_report(&mut self) -> Option<String> {
        failure::device_report()
    }

    fn epoch_start(&mut self, start: &EpochStart) {
        self.with_records(Records::begin);
        self.time_left.epoch(start.run_steps);
        self.start(format!("epoch {}/{}", start.epoch, start.epochs), start.steps);
        self.done = start.done;
        if let Some(bar) = &self.bar {
            bar.set_position(start.done as u64);
        }
    }

    fn run_length(&mut self, steps: u64) {
        self.time_left.epoch(steps);
    }

    fn step(&mut self, step: u64, read: Option<&StepRecord>) {
        let left = self.time_left.step(step);
        if let Some(record) = read {
            self.status = format!(
                "loss {:.4} (class {:.4}, {:.0} % from positives; box {:.4}), lr {:.2e}, {:.1} images/s, {:.0} % waiting \
                 for data{left}",
                record.loss,
                record.class_loss,
                100.0 * record.positive_share,
                record.box_loss,
                record.lr,
                record.images_per_second,
                100.0 * record.data_wait
            );
        }
        self.advance();
    }

    fn epoch_end(&mut self) {
        self.finish();
        note!("{} {}/{} {}", self.prefix, self.done, self.steps, self.status);
    }

    fn evaluation_start(&mut self, batches: usize) {
        self.start("evaluation".to_owned(), batches);
    }

    fn evaluation_step(&mut self) {
        self.advance();
    }

    fn evaluation(&mut self, report: &EvaluationReport<'_>) {
        self.finish();
        let metrics = if report.metrics.is_defined() {
            format!("AP {:.3}, AP50 {:.3}", report.metrics.ap, report.metrics.ap50)
        } else {
            "AP is undefined, because the validation set has no objects".to_owned()
        };
        let without = if report.left_out > 0 {
            format!(" (on {} images, without {} that could not be loaded)", report.images, report.left_out)
        } else {
            String::new()
        };
        note!(
            "epoch {}{without}: {metrics}, loss {:.4} (class {:.4}, box {:.4}), evaluated in {:.0} s{}",
            report.epoch,
            report.losses.total,
            report.losses.class,
            report.losses.boxes,
            report.seconds,
            if report.best { format!(", best {} so far", report.best_by) } else { String::new() }
        );
        for line in self.evaluations.table(report) {
            note!("{line}");
        }
        self.with_records(Records::begin);
        self.with_records(Records::report);
    }

    fn draw(&mut self, image: &RgbImage, detections: &[DrawnDetection]) -> Option<Picture> {
        picture::draw(image, detections)
    }

    fn epoch_finished(&mut self, json: &Value) {
        if let Some(command) = &self.on_epoch
            && let Err(what) = on_epoch::run(command, json)
        {
            self.line(&format!("warning: train.on_epoch: the command {command:?} {what}; the run goes on"));
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.tuning = None;
        self.finish();
    }
}
