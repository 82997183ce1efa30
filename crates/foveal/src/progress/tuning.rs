//! Shows on stderr that the first step on a GPU takes longer.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::LINE_INTERVAL;
use crate::console::note;
use crate::device::TUNING_IS_KEPT;

/// Template of the first step on a GPU.
const TUNING_TEMPLATE: &str = "{spinner} {msg} [{elapsed_precise}]";

/// What the first step on a GPU is announced as.
fn tuning_text() -> &'static str {
    if TUNING_IS_KEPT { "tuning kernels for this GPU (once)" } else { "tuning kernels for this GPU (once in a run)" }
}

/// Shows how long the first step on a GPU has taken, until it is dropped.
pub(super) struct Tuning {
    bar: Option<ProgressBar>,
    /// Ends the thread that prints lines when it is dropped.
    lines: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Tuning {
    /// Begins to show it, with a bar if `terminal` is set.
    pub(super) fn start(terminal: bool) -> Self {
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
