//! What is written into the folder of a run beside the files of the training: its starts and its report.

use std::path::PathBuf;

use crate::report::{Environment, Reporter, StartRecord};

/// The starts and the report of a run.
pub(super) struct Records {
    root: PathBuf,
    /// The start of this process, until it is written.
    start: Option<StartRecord>,
    reporter: Reporter,
}

impl Records {
    /// Records in the folder `root` of a run. Nothing is written yet.
    pub(super) fn new(root: PathBuf, start: StartRecord) -> Self {
        Self { root, start: Some(start), reporter: Reporter::default() }
    }

    /// Writes the start of this process into the folder, once. Returns what could not be done.
    pub(super) fn begin(&mut self) -> Vec<String> {
        let written = self.start.take().map_or(Ok(()), |start| Environment::add(&self.root, start));
        written.err().map(|error| format!("the start of the run is not recorded: {error:#}")).into_iter().collect()
    }

    /// Writes the report of the run. Returns what could not be done.
    pub(super) fn report(&mut self) -> Vec<String> {
        self.reporter.write(&self.root).unwrap_or_else(|error| vec![format!("the report is not written: {error:#}")])
    }
}
