//! Progress on stderr: bars on a terminal, lines elsewhere. Neither ends a run when it cannot be written.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use foveal_train::{EpochStart, EvaluationReport, Progress, StepRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::console::{self, note};
use crate::device::TUNING_IS_KEPT;
use crate::failure;
use crate::report::{Environment, Reporter, StartRecord};

/// Time between two progress lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(20);
/// Template of a bar; the message holds the losses, the learning rate and the speed.
const TEMPLATE: &str = "{prefix} {bar:24} {pos}/{len} {msg} [{elapsed_precise}, {eta} left]";

/// Template of the first step on a GPU.
const TUNING_TEMPLATE: &str = "{spinner} {msg} [{elapsed_precise}]";

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
    records: Option<Records>,
}

/// What is written into the folder of a run beside the files of the training.
struct Records {
    root: PathBuf,
    /// The start of this process, until it is written.
    start: Option<StartRecord>,
    reporter: Reporter,
}

impl Records {
    /// Writes the start of this process into the folder, once. Returns what could not be done.
    fn begin(&mut self) -> Vec<String> {
        let written = self.start.take().map_or(Ok(()), |start| Environment::add(&self.root, start));
        written.err().map(|error| format!("the start of the run is not recorded: {error:#}")).into_iter().collect()
    }

    /// Writes the report of the run. Returns what could not be done.
    fn report(&mut self) -> Vec<String> {
        self.reporter.write(&self.root).unwrap_or_else(|error| vec![format!("the report is not written: {error:#}")])
    }
}

/// What the first step on a GPU is announced as.
fn tuning_text() -> &'static str {
    if TUNING_IS_KEPT { "tuning kernels for this GPU (once)" } else { "tuning kernels for this GPU (once in a run)" }
}

/// Shows how long the first step on a GPU has taken, until it is dropped.
struct Tuning {
    bar: Option<ProgressBar>,
    /// Ends the thread that prints lines when it is dropped.
    lines: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Tuning {
    fn start(terminal: bool) -> Self {
        note!("{}: the first step takes longer than the others", tuning_text());
        if terminal {
            let style =
                ProgressStyle::with_template(TUNING_TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
            if !bar.is_hidden() {
                bar.set_message(tuning_text());
                bar.enable_steady_tick(Duration::from_millis(200));
                return Self { bar: Some(bar), lines: None };
            }
        }
        let (sender, receiver) = channel();
        let started = Instant::now();
        let print = move || {
            while receiver.recv_timeout(LINE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                note!("{}: {:.0} s so far", tuning_text(), started.elapsed().as_secs_f64());
            }
        };
        // Without a thread there are no lines in between.
        let printer = thread::Builder::new().name("progress".to_owned()).spawn(print).ok();
        Self { bar: None, lines: printer.map(|printer| (sender, printer)) }
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some((sender, printer)) = self.lines.take() {
            drop(sender);
            let _ = printer.join();
        }
    }
}

impl Console {
    /// Creates a console that shows bars if stderr is a terminal, and lines otherwise.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            prefix: String::new(),
            steps: 0,
            done: 0,
            status: String::new(),
            last_line: Instant::now(),
            tuning: None,
            records: None,
        }
    }

    /// Records the start of this process and the reports of the run in a folder, when the training begins and after each
    /// evaluation.
    pub(crate) fn record_in(&mut self, root: PathBuf, start: StartRecord) {
        self.records = Some(Records { root, start: Some(start), reporter: Reporter::default() });
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
        self.start(format!("epoch {}/{}", start.epoch, start.epochs), start.steps);
        self.done = start.done;
        if let Some(bar) = &self.bar {
            bar.set_position(start.done as u64);
        }
    }

    fn step(&mut self, _step: u64, read: Option<&StepRecord>) {
        if let Some(record) = read {
            self.status = format!(
                "loss {:.4} (class {:.4}, {:.0} % from positives; box {:.4}), lr {:.2e}, {:.1} images/s",
                record.loss,
                record.class_loss,
                100.0 * record.positive_share,
                record.box_loss,
                record.lr,
                record.images_per_second
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
            if report.best { ", best AP so far" } else { "" }
        );
        self.with_records(Records::begin);
        self.with_records(Records::report);
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.tuning = None;
        self.finish();
    }
}
