//! The plan of a configuration: a pure function of what was measured, so that every choice can be tested.

mod assignment;
mod augmentation;
mod input;
mod network;
mod schedule;

use serde::Serialize;

use super::facts::Facts;

pub(crate) use network::Network;

/// A key of the configuration with its value and the reason for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// The key with its sections, such as `data.min_size`.
    pub key: String,
    /// The value.
    pub value: toml::Value,
    /// Why the key has this value, with the number behind it: sentences for a comment.
    pub reason: String,
}

impl Setting {
    pub(super) fn new(key: &str, value: impl Into<toml::Value>, reason: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.into(), reason: reason.into() }
    }
}

/// The settings of a configuration, and what they were computed with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Plan {
    /// Shorter side of the images in pixels (`data.min_size`).
    pub size: u32,
    /// Largest longer side of the images in pixels (`data.max_size`).
    pub max_size: u32,
    /// Widths of the network.
    pub network: Network,
    /// Number of images of a batch.
    pub batch: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Number of optimizer steps of the run.
    pub steps: usize,
    /// Number of training images that the run sees, with repetitions.
    pub images_seen: usize,
    /// Seconds that the run is expected to take with its evaluations; `None` where no step was timed.
    pub seconds: Option<f64>,
    /// All settings that the file contains besides paths.
    pub settings: Vec<Setting>,
    /// What the user should know before training: sentences for the head of the file and for stderr.
    pub warnings: Vec<String>,
}

/// Chooses all settings. The result depends on `facts` alone.
pub(crate) fn decide(facts: &Facts) -> Plan {
    let mut settings = Vec::new();
    let mut warnings = Vec::new();
    let sampling = augmentation::Sampling::of(facts);
    let network = network::choose(facts, sampling.epoch_images);
    let input = input::choose(facts, network, sampling.epoch_images);
    let schedule = schedule::Schedule::of(facts, network, &input, sampling.epoch_images);
    input.explain(facts, &mut settings, &mut warnings);
    sampling.explain(facts, &mut settings);
    let images_seen = schedule.epochs * sampling.epoch_images;
    augmentation::explain(facts, &input, images_seen, &mut settings);
    augmentation::paste(facts, schedule.epochs, &mut settings);
    network::explain(facts, network, &mut settings, &mut warnings);
    assignment::explain(facts, &input, &mut settings);
    schedule.explain(facts, network, &mut settings, &mut warnings);
    warn(facts, &mut warnings);
    Plan {
        size: input.size,
        max_size: input.max_size,
        network,
        batch: schedule.batch,
        epochs: schedule.epochs,
        steps: schedule.steps,
        images_seen,
        seconds: schedule.seconds,
        settings,
        warnings,
    }
}

/// Fewest images of a class without which its results are a matter of chance.
const FEW_IMAGES: usize = 10;

/// Warnings about the data set.
fn warn(facts: &Facts, warnings: &mut Vec<String>) {
    let rare: Vec<String> = facts
        .data
        .classes
        .iter()
        .filter(|class| class.images < FEW_IMAGES)
        .map(|class| format!("{} ({})", foveal_base::printable(&class.name), class.images))
        .collect();
    if !rare.is_empty() {
        let listed = rare.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
        let more = if rare.len() > 6 { format!(" and {} more", rare.len() - 6) } else { String::new() };
        warnings.push(format!(
            "each of these classes is on fewer than {FEW_IMAGES} training images: {listed}{more}. The detector can \
             hardly learn them; more images with them help more than any setting"
        ));
    }
    if facts.val.classes_without > 0 {
        warnings.push(format!(
            "{} of {} classes have no object in the validation set, so that AP says nothing about them",
            facts.val.classes_without,
            facts.data.classes.len()
        ));
    }
    if facts.data.left_out > 0 {
        warnings.push(format!(
            "{} images or boxes cannot be used and are left out; foveal data check lists them",
            facts.data.left_out
        ));
    }
}

/// `n` rounded up to a multiple of 32 pixels, the stride of the deepest map of the backbone.
pub(super) fn multiple_of_32(n: f64) -> u32 {
    (n / 32.0).ceil().max(1.0) as u32 * 32
}

#[cfg(test)]
pub(super) mod tests;
