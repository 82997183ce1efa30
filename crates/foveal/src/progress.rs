//! Bars on a terminal, lines elsewhere; all of it on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use foveal_train::{EpochStart, EvaluationReport, Progress, StepRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(20);
/// One line a bar; the message holds the figures.
const TEMPLATE: &str = "{prefix} {bar:24} {pos}/{len} {msg} [{elapsed_precise}, {eta} left]";

/// Shows what a run does.
pub struct Console {
    terminal: bool,
    bar: Option<ProgressBar>,
    prefix: String,
    steps: usize,
    done: usize,
    figures: String,
    last_line: Instant,
}

impl Console {
    /// Bars where stderr is a terminal, else lines.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            prefix: String::new(),
            steps: 0,
            done: 0,
            figures: String::new(),
            last_line: Instant::now(),
        }
    }

    fn start(&mut self, prefix: String, steps: usize) {
        self.finish();
        self.prefix = prefix;
        self.steps = steps;
        self.done = 0;
        self.figures.clear();
        self.last_line = Instant::now();
        if self.terminal {
            let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_prefix(self.prefix.clone());
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.figures.clone());
                bar.inc(1);
            }
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                eprintln!("{} {}/{} {}", self.prefix, self.done, self.steps, self.figures);
            }
            None => {}
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line that does not tear the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Progress for Console {
    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn epoch_start(&mut self, start: &EpochStart) {
        self.start(format!("epoch {}/{}", start.epoch, start.epochs), start.steps);
    }

    fn step(&mut self, _step: u64, read: Option<&StepRecord>) {
        if let Some(record) = read {
            self.figures = format!(
                "loss {:.4} (class {:.4}, {:.0} % of it positives; box {:.4}), lr {:.2e}, {:.1} images/s",
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
        eprintln!("{} {}/{} {}", self.prefix, self.done, self.steps, self.figures);
    }

    fn evaluation_start(&mut self, batches: usize) {
        self.start("evaluation".to_owned(), batches);
    }

    fn evaluation_step(&mut self) {
        self.advance();
    }

    fn evaluation(&mut self, report: &EvaluationReport<'_>) {
        self.finish();
        eprintln!(
            "epoch {}: AP {:.3}, AP50 {:.3}, losses {:.4} (class {:.4}, box {:.4}), {:.0} s{}",
            report.epoch,
            report.metrics.ap,
            report.metrics.ap50,
            report.losses.total,
            report.losses.class,
            report.losses.boxes,
            report.seconds,
            if report.best { ", the best so far" } else { "" }
        );
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}
