//! Every remedy for imbalance trains on the generated set: 200 steps, falling loss, finite gradients.

use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use foveal_criterion::SmoothedPositives;
use foveal_train::{EpochRecord, Outcome, RunConfig, RunDir, Silent, Start, StepRecord, train};

const STEPS: usize = 200;

fn tiny(changes: &str) -> RunConfig {
    let mut table: toml::Table = toml::from_str(include_str!("tiny.toml")).unwrap();
    merge(&mut table, toml::from_str(changes).unwrap());
    let mut config = RunConfig::from_toml(&table.to_string()).unwrap();
    let data = &mut config.data;
    (data.shapes.count, data.shapes.imbalance) = (STEPS, 10.0);
    let t = &mut config.train;
    (t.epochs, t.max_steps, t.batch_size, t.eval_every) = (4, STEPS, 1, 0);
    (t.optimizer, t.lr, t.clip_norm) = (foveal_train::OptimizerKind::AdamW, 2e-3, 10.0);
    config
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(table)) => merge(inner, table),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

struct Trained {
    steps: Vec<StepRecord>,
    epochs: Vec<EpochRecord>,
}

fn run(config: &RunConfig) -> Trained {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let outcome = train(config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    let text = std::fs::read_to_string(run.log()).unwrap();
    let steps = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Trained { steps, epochs: text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() }
}

fn learns(changes: &str) -> Trained {
    learns_by(changes, |steps| steps.iter().map(|s| s.loss).collect())
}

/// Trains and checks that the losses which `losses` computes from the steps fall.
fn learns_by(changes: &str, losses: impl Fn(&[StepRecord]) -> Vec<f64>) -> Trained {
    let trained = run(&tiny(changes));
    let steps = &trained.steps;
    assert_eq!(steps.len(), STEPS, "{changes}");
    for step in steps {
        assert!(step.loss.is_finite() && step.grad_norm.is_finite() && step.grad_norm > 0.0, "{changes}: {step:?}");
        let breakdown = step.breakdown.as_ref().unwrap();
        let sum = breakdown.positive.loss + breakdown.negative.loss;
        assert!((sum - step.class_loss).abs() <= 1e-5 * sum.abs(), "{changes}: {sum} {}", step.class_loss);
    }
    let losses = losses(steps);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..STEPS / 5]), mean(&losses[STEPS - STEPS / 5..]));
    assert!(last < 0.95 * first, "{changes}: {first} -> {last}");
    trained
}

#[test]
fn losses_fall() {
    for loss in [
        "kind = \"cross_entropy\"",
        "kind = \"balanced_cross_entropy\"\nalpha = 0.75",
        "kind = \"focal\"",
        "kind = \"ohem\"\nohem_ratio = 3",
        "kind = \"quality_focal\"",
        "kind = \"quality_focal\"\nbox = \"diou\"",
        "kind = \"quality_focal\"\nbox = \"ciou\"\ngamma = [2.0, 1.0, 1.5]\nclass_weights = \"effective_number\"",
    ] {
        learns(&format!("[loss]\n{loss}"));
    }
}

#[test]
fn weights_and_lists_fall() {
    for loss in [
        "class_weights = \"inverse_frequency\"",
        "class_weights = \"effective_number\"",
        "class_weights = [0.5, 1.0, 1.5]",
        "alpha = [0.25, 0.5, 0.75]",
        "gamma = [2.0, 1.0, 0.5]",
        "normalizer = \"per_image\"",
    ] {
        learns(&format!("[loss]\n{loss}"));
    }
}

/// The normalizer itself falls, from 100 to the number of positives, so losses are compared before the division.
#[test]
fn undivided_losses_fall_under_a_moving_divisor() {
    learns_by("[loss]\nnormalizer = \"ema\"", |steps| {
        let mut average = SmoothedPositives::default();
        steps.iter().map(|s| s.loss * average.update(s.positives as usize)).collect()
    });
}

#[test]
fn samplers_fall_and_change_what_is_seen() {
    // The number of positives of the rarest class in an epoch divided by that of the most frequent.
    let seen = |sampler: &str| {
        let trained = learns(&format!("[data]\nsampler = \"{sampler}\"\nrepeat_threshold = 0.5"));
        let classes = trained.epochs[0].breakdown.as_ref().unwrap().classes.positives.clone();
        classes[classes.len() - 1] / classes[0]
    };
    let uniform = seen("uniform");
    assert!(seen("repeat_factor") > 1.1 * uniform);
    assert!(seen("oversample") > 1.5 * uniform);
    assert!(seen("undersample") > 1.1 * uniform);
}

#[test]
fn a_list_of_another_length_and_wrong_names_are_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let config = tiny("[loss]\nalpha = [0.25, 0.5]");
    let error = train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("loss.alpha") && text.contains('2') && text.contains('3'), "{text}");
}
