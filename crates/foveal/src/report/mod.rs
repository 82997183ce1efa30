//! The report of a run, and the comparison of several: `foveal report`, and `report.html` in the folder of a run.

mod analysis;
mod compare;
mod curves;
mod data;
mod environment;
mod gallery;
pub(crate) mod history;
mod matching;
mod paired;
mod run;
mod settings;
mod speed;

use std::path::{Path, PathBuf};

use anyhow::Result;
use foveal_data::Dataset;
use foveal_eval::{Analysis, Analyzer};

pub(crate) use data::statistics;
pub(crate) use environment::{Environment, StartRecord};

use crate::output;
use crate::page::{Html, Page, ScoreRange, Section, el};
use history::Line;
use matching::{best_f1_score, matches};
use run::Run;

/// The name of the report in the folder of a run.
pub(crate) const REPORT: &str = "report.html";
/// The score from which detections are shown at first if none of them is correct.
const SHOWN_SCORE: f64 = 0.5;

/// A page as text, and what could not be put into it.
pub(crate) struct Report {
    /// The text of the HTML file.
    pub(crate) html: String,
    /// What is missing, as sentences.
    pub(crate) warnings: Vec<String>,
}

/// The files that the report of a run is made from.
pub(crate) fn inputs(root: &Path) -> Vec<PathBuf> {
    ["config.toml", "log.jsonl", "environment.json", foveal_train::DETECTIONS].map(|name| root.join(name)).to_vec()
}

/// The report of one run, or the comparison of several.
///
/// # Errors
/// If a folder is not that of a run, or one of its files cannot be read. A data set that cannot be opened is no error,
/// but the sections that need it are missing, and a warning says so.
pub(crate) fn report(roots: &[PathBuf]) -> Result<Report> {
    let runs: Vec<Run> = roots.iter().map(|root| Run::read(root)).collect::<Result<_>>()?;
    match &runs[..] {
        [run] => Reporter::default().report(run),
        runs => {
            let (page, warnings) = compare::page(runs)?;
            Ok(Report { html: page.html(), warnings })
        }
    }
}

/// Makes the reports of one run. What does not change during a run is computed once.
#[derive(Default)]
pub(crate) struct Reporter {
    data: Option<DataSections>,
}

/// The sections about the training data.
struct DataSections {
    statistics: Html,
    coverage: Html,
}

impl Reporter {
    /// Writes the report into the folder of a run, and returns what could not be put into it.
    ///
    /// # Errors
    /// If a file of the run cannot be read, or the report cannot be written.
    pub(crate) fn write(&mut self, root: &Path) -> Result<Vec<String>> {
        let Report { html, warnings } = self.report(&Run::read(root)?)?;
        output::write_file(&root.join(REPORT), html.as_bytes())?;
        Ok(warnings)
    }

    fn report(&mut self, run: &Run) -> Result<Report> {
        let mut warnings = Vec::new();
        let mut warn = |what: &str, error: anyhow::Error| {
            warnings.push(format!("the report of {} is without {what}: {error:#}", run.root.display()));
        };
        let val = run.validation().map_err(|error| warn("the validation set", error)).ok();
        if self.data.is_none() {
            let sections = run.training().map(|train| DataSections {
                statistics: {
                    let val = val.as_ref().map(|val| ("validation", val));
                    let sets: Vec<_> = [("training", &train)].into_iter().chain(val).collect();
                    statistics(Some(&run.config), &sets)
                },
                coverage: data::coverage(&run.config, &train),
            });
            self.data = sections.map_err(|error| warn("the statistics of the data", error)).ok();
        }
        let evaluated = val.as_ref().zip(run.detections.as_ref());
        let analysis = evaluated.map(|(val, detections)| -> Result<Analysis> {
            Ok(Analyzer::new(val.coco(), detections, &[])?.analysis())
        });
        let analysis = analysis.and_then(|made| made.map_err(|error| warn("the analysis", error)).ok());
        let gallery = evaluated.map_or_else(Html::new, |(val, found)| {
            let images = matches(val, found);
            // Without the error of the conversion from f32.
            let lowest = (f64::from(run.config.eval.score_threshold) * 1e4).round() / 1e4;
            // The slider has steps of 0.01.
            let shown = best_f1_score(&images).map_or(SHOWN_SCORE, |score| (score * 100.0).floor() / 100.0);
            gallery::gallery(val, &images, ScoreRange { lowest, shown: shown.max(lowest) })
        });
        let labels = val.as_ref().zip(analysis.as_ref());
        let labels = labels.map_or_else(Html::new, |(val, made)| gallery::label_errors(val, &made.label_errors));
        let last = run.history.evaluations.last();
        let data = self.data.as_ref();
        let section =
            |id: &'static str, title: &'static str, body| Section { id: id.into(), title: title.into(), body };
        let sections = vec![
            section("curves", "Course of the training", curves::curves(&run.history)),
            section("classes", "Classes", analysis::classes(analysis.as_ref(), last)),
            section("errors", "Errors", analysis.as_ref().map_or_else(Html::new, analysis::errors)),
            section("gallery", "Gallery", gallery),
            section("labels", "Likely label errors", labels),
            section("assignment", "Assignment of anchors", data.map_or_else(Html::new, |data| data.coverage.clone())),
            section("data", "Data", data.map_or_else(Html::new, |data| data.statistics.clone())),
            section("speed", "Speed", speed::speed(&run.history)),
            section("configuration", "Configuration", settings::settings(&run.config)?),
            section("environment", "Environment", settings::environment(&run.config, &run.environment)),
        ];
        let lead = lead(run, val.as_ref()).with(notes(run, &warnings));
        let page = Page { title: format!("Run {}", run.name), lead, sections };
        Ok(Report { html: page.html(), warnings })
    }
}

/// The most important numbers of a run.
fn lead(run: &Run, val: Option<&Dataset>) -> Html {
    let history = &run.history;
    let metric = |line: Option<&Line>, name: &str| line.and_then(|line| line.metric(name));
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    let (best, last) = (history.best(), history.evaluations.last());
    let epochs = history.epochs.last().map_or(0, |line| line.epoch);
    let seconds: f64 = history.epochs.iter().filter_map(|line| line.seconds).sum();
    let best_at = best.map_or_else(|| "best AP".to_owned(), |line| format!("best AP, epoch {}", line.epoch));
    let last_at = last.map_or_else(|| "last AP".to_owned(), |line| format!("last AP, epoch {}", line.epoch));
    let loss = last.and_then(|line| line.validation_loss("total"));
    let tiles = [
        (shown(metric(best, "AP")), best_at),
        (shown(metric(last, "AP")), last_at),
        (shown(metric(last, "AP50")), "last AP50".to_owned()),
        (shown(metric(last, "AR100")), "last AR100".to_owned()),
        (shown(loss), "last validation loss".to_owned()),
        (format!("{epochs} of {}", run.config.train.epochs), "epochs".to_owned()),
        (history.last_step().to_string(), "optimizer steps".to_owned()),
        (format!("{:.1}", seconds / 60.0), "minutes of training".to_owned()),
        (val.map_or_else(|| "–".to_owned(), |val| val.len().to_string()), "validation images".to_owned()),
    ];
    let tile = |(value, name): (String, String)| el("li").child(el("b").text(value)).child(el("span").text(name));
    el("ul").class("tiles").children(tiles.map(tile)).into()
}

/// What a reader should know about the page.
fn notes(run: &Run, warnings: &[String]) -> Html {
    let mut notes: Vec<String> = warnings.to_vec();
    if run.detections.is_none() {
        notes.push(format!(
            "The run's folder has no {}, which an evaluation writes, so that the report has no gallery and no analysis of \
             the detections.",
            foveal_train::DETECTIONS
        ));
    }
    if run.history.non_finite > 0 {
        notes.push(format!(
            "{} steps were left out or rewound, because their losses were not finite.",
            run.history.non_finite
        ));
    }
    notes.into_iter().map(|note| el("p").class("note").text(note)).collect()
}

#[cfg(test)]
mod tests;
