//! The report on which tensors were loaded from `model.weights`: a message for the user, and `weights.json`.

use foveal_base::write_atomically;
use foveal_detector::{LoadReport, ModelConfig};

use super::RunDir;
use crate::error::TrainError;

/// Largest number of tensor names that the message shows of each list.
const SHOWN: usize = 6;

/// The first names of a list, separated by commas.
fn first_names(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// The tensors of the network that are not in the file or have another shape there. They have new weights.
fn rebuilt(report: &LoadReport) -> Vec<String> {
    let mut names: Vec<String> =
        report.missing.iter().chain(report.mismatched.iter().map(|m| &m.name)).cloned().collect();
    names.sort();
    names
}

/// The path of the weight file as it stands in the configuration.
fn file(model: &ModelConfig) -> String {
    model.weights.as_ref().map(|w| w.display().to_string()).unwrap_or_default()
}

/// A message on how many tensors were loaded, with the first names of the others. `weights.json` lists all names.
pub(crate) fn summary(report: &LoadReport, model: &ModelConfig, run: &RunDir) -> String {
    let mut text = format!("{}: {} tensors loaded", file(model), report.loaded.len());
    for (what, names) in [("newly initialised", &rebuilt(report)), ("in the file but not used", &report.unused)] {
        if !names.is_empty() {
            text += &format!("; {} {what} ({})", names.len(), first_names(names));
        }
    }
    format!("{text}; all names are listed in {}", run.weights().display())
}

/// Writes `weights.json`: the tensors that were `loaded` from the file, those `rebuilt` with new weights (of which
/// `other_shapes` are in the file with another shape), and those `left` in the file.
pub(crate) fn write(report: &LoadReport, model: &ModelConfig, run: &RunDir) -> Result<(), TrainError> {
    let shapes: Vec<serde_json::Value> = report
        .mismatched
        .iter()
        .map(|m| serde_json::json!({"name": m.name, "expected": m.expected, "found": m.found}))
        .collect();
    let tensors = serde_json::json!({
        "file": file(model), "loaded": report.loaded, "rebuilt": rebuilt(report), "left": report.unused,
        "other_shapes": shapes,
    });
    let text = serde_json::to_string_pretty(&tensors).expect("names are JSON");
    Ok(write_atomically(&run.weights(), text.as_bytes())?)
}
