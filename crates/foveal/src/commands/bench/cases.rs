//! `foveal bench --cases`: several benchmarks in one process.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use foveal_base::printable;
use foveal_detector::Checkpoint;
use foveal_train::{BenchReport, bench};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BATCH_SIZE, fill, phases, precision_layer};
use crate::args::BenchPhase;
use crate::config::{self, Layer};
use crate::console;
use crate::device::Picked;
use crate::failure::{self, Caught, DONE, FAILED};
use crate::output;

/// A case: what it changes about the configuration. The doc comment of `--cases` describes the keys.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    set: Map<String, Value>,
}

/// The result of a case: one line of the output.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a Case,
    #[serde(flatten)]
    result: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Report(Box<BenchReport>),
    Error(String),
}

/// What all cases share.
pub(super) struct Shared<'a> {
    /// The configuration file or the standard settings, and `--set`.
    pub(super) layers: Vec<Layer>,
    pub(super) picked: &'a Picked,
    pub(super) detector: Option<&'a Checkpoint>,
    /// Whether operations are counted (`--count`).
    pub(super) count: bool,
}

impl Shared<'_> {
    /// Runs the cases in `cases` and writes a line for each to `json`, or to stdout. Returns the exit code: that of a
    /// failure if a case failed. A case after which the device may be lost is the last one.
    ///
    /// # Errors
    /// If a file cannot be read or written, or a line is no case; the error names the file and the line.
    pub(super) fn run(&self, cases: &Path, json: Option<&Path>) -> Result<u8> {
        let file = || cases.display();
        let input: Box<dyn BufRead> = if cases == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(cases).with_context(|| format!("cannot read the cases {}", file()))?))
        };
        let mut to = json.filter(|path| !output::is_stdout(Some(path))).map(appended).transpose()?;
        let mut code = DONE;
        for (index, line) in input.lines().enumerate() {
            let line = line.with_context(|| format!("cannot read the cases {}", file()))?;
            if line.trim().is_empty() {
                continue;
            }
            let case: Case = serde_json::from_str(&line)
                .map_err(|error| anyhow!("{}:{}: expected a case as a JSON object: {error}", file(), index + 1))?;
            let mut is_last = false;
            let result = match self.measure(&case, &mut is_last) {
                Ok(report) => Outcome::Report(Box::new(report)),
                Err(error) => {
                    code = FAILED;
                    let name = printable(if case.name.is_empty() { line.trim() } else { &case.name });
                    console::lines(format!("error: case {name}: {}", failure::message(&error)).split('\n'));
                    Outcome::Error(format!("{error:#}"))
                }
            };
            let mut text = serde_json::to_string(&Line { case: &case, result })?;
            text.push('\n');
            match (&mut to, json) {
                (Some(file), Some(path)) => {
                    let written = file.write_all(text.as_bytes()).and_then(|()| file.flush());
                    written.with_context(|| format!("cannot write {}", path.display()))?;
                }
                _ => output::print(&text)?,
            }
            if is_last {
                break;
            }
        }
        Ok(code)
    }

    /// Runs a case. A panic is an error too; it sets `is_last` unless the device only had no memory.
    fn measure(&self, case: &Case, is_last: &mut bool) -> Result<BenchReport> {
        let mut layers = self.layers.clone();
        let counts = [
            ("batch_size", case.batch),
            ("height", case.height),
            ("width", case.width),
            ("steps", case.steps),
            ("warmup", case.warmup),
        ];
        for (key, count) in counts {
            if let Some(count) = count {
                layers.push(Layer::from_set(&format!("bench.{key}={count}"))?);
            }
        }
        layers.extend(case.precision.as_deref().map(precision_layer).transpose()?);
        for (key, value) in &case.set {
            // Numbers, strings and lists are written in TOML as they are in JSON.
            layers.push(Layer::from_set(&format!("{key}={value}"))?);
        }
        let phase = match &case.phase {
            None => BenchPhase::Train,
            Some(name) => BenchPhase::from_str(name, false)
                .map_err(|_| anyhow!("phase: expected train, infer, loss, focal, data, raw or peak, found {name}"))?,
        };
        let config = config::with_sets(layers, &[])?;
        let device = &self.picked.device;
        let run = || bench(&config, device, phases(Some(phase)), self.detector, self.count);
        let report = catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
            let Caught { text, out_of_memory } = failure::caught(Some(BATCH_SIZE));
            *is_last = !out_of_memory;
            anyhow!(text)
        });
        if *is_last {
            return Ok(report??);
        }
        // The next case, and other programs on this GPU, need the memory. Tensors that were dropped wait in Burn's
        // queue until the device is waited for.
        let waited = device.sync();
        device.memory_cleanup();
        let mut report = report??;
        if let Err(error) = waited {
            *is_last = true;
            return Err(anyhow!("the device failed: {error}"));
        }
        failure::forget_device_report();
        fill(&mut report, &config, self.picked);
        Ok(report)
    }
}

/// Opens a file to append lines to it, and creates its folder if needed.
fn appended(path: &Path) -> Result<File> {
    output::create_parent(path)?;
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))
}
