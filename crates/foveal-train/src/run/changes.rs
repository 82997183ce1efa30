//! Compares what a run was made with to what it would be resumed with.

use std::path::Path;

use foveal_base::first_chars;
use foveal_coco::CategoryInfo;
use foveal_data::Transform;
use serde_json::Value;

use super::{Premises, Progress};
use crate::config::{RunConfig, ScheduleKind, TrainConfig};
use crate::error::TrainError;

/// What a changed setting means for a run that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// The run goes on as before: the change is reported.
    Harmless,
    /// The run would train in another way: the change must be allowed.
    Training,
    /// The saved network or optimizer does not fit: the run cannot go on.
    Impossible,
}

/// Settings that change neither the images that a run trains on nor, except for rounding, the weights. A key stands for
/// its whole section. The file of `model.weights` is read only when a run begins.
const HARMLESS: [&str; 28] = [
    "bench",
    "data.cache",
    "data.max_image_bytes",
    "data.max_skipped",
    "data.on_error",
    "data.queue",
    "data.workers",
    "device",
    "model.weights",
    "name",
    "threads",
    "train.activation_checkpointing",
    "train.best_by",
    "train.eval_every",
    "train.keep",
    "train.log_classes_every",
    "train.log_every",
    "train.log_images",
    "train.max_non_finite",
    "train.max_steps",
    "train.min_gain",
    "train.non_finite",
    "train.patience",
    "train.precision",
    "train.rewind_factor",
    "train.save_every",
    "train.step0_check",
    "train.tensorboard",
];
/// Settings that the saved network, optimizer or order of images depends on. A key stands for its whole section.
const IMPOSSIBLE: [&str; 4] = ["categories", "model", "train.optimizer", "train.seed"];

/// The effect of a change of `key` from `old` to `new`, where the resumed run has the configuration `config`.
fn effect(key: &str, old: &Value, new: &Value, config: &RunConfig) -> Effect {
    let within =
        |section: &&str| key.strip_prefix(*section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_zero = |value: &Value| value.as_f64() == Some(0.0);
    match key {
        // The state has either an average of the weights or none.
        "train.ema" if is_zero(old) != is_zero(new) => Effect::Impossible,
        // Only a cosine that ends with the run, and transforms that are left out in the last epochs, depend on the
        // number of epochs, and only a cosine depends on its own end.
        "train.epochs" if !follows_epochs(&config.train) && !leaves_out(config) => Effect::Harmless,
        "train.cosine_epochs" if config.train.schedule != ScheduleKind::Cosine => Effect::Harmless,
        _ if HARMLESS.iter().any(within) => Effect::Harmless,
        _ if IMPOSSIBLE.iter().any(within) => Effect::Impossible,
        _ => Effect::Training,
    }
}

/// Whether the schedule of the learning rate depends on the number of epochs.
fn follows_epochs(train: &TrainConfig) -> bool {
    train.schedule == ScheduleKind::Cosine && train.cosine_epochs == 0.0
}

/// Whether the last epochs leave out transforms that the others have.
fn leaves_out(config: &RunConfig) -> bool {
    let augment = &config.data.augment;
    augment.close_epochs > 0 && augment.transforms.iter().any(Transform::is_strong)
}

/// A setting with its old and its new value.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    key: String,
    old: Value,
    new: Value,
    effect: Effect,
}

/// Compares the premises of a saved run with those of the run that is to go on, and reports the differences. `config`
/// is the configuration of the run that is to go on, and `run` the path of the run folder.
///
/// # Errors
/// [`TrainError::Refused`] when a setting differs that a run cannot change; [`TrainError::Changed`] when a setting
/// differs that changes the training, and `allow_changes` is false.
pub(crate) fn compare(
    old: &Premises,
    new: &Premises,
    config: &RunConfig,
    run: &Path,
    allow_changes: bool,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let changes = changes(old, new, config);
    let with = |effect| list(changes.iter().filter(|change| change.effect == effect));
    let path = run.to_owned();
    if let Some(changes) = with(Effect::Impossible) {
        return Err(TrainError::Refused { path, changes });
    }
    if let Some(training) = with(Effect::Training) {
        if !allow_changes {
            return Err(TrainError::Changed { path, changes: training });
        }
        progress.message(&format!("warning: the training goes on with other settings (--allow-changes): {training}"));
    }
    if let Some(harmless) = with(Effect::Harmless) {
        progress.message(&format!("changed since the run was saved: {harmless}"));
    }
    Ok(())
}

/// All differences, in the order of the configuration.
fn changes(old: &Premises, new: &Premises, config: &RunConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |key: &str, old: &Value, new: &Value| {
        let effect = effect(key, old, new, config);
        changes.push(Change { key: key.to_owned(), old: old.clone(), new: new.clone(), effect });
    };
    differences("", &complete(&old.config), &new.config, &mut add);
    let mut compare = |key: &str, old: Value, new: Value| {
        if old != new {
            add(key, &old, &new);
        }
    };
    let names = |categories: &[CategoryInfo]| -> Value {
        categories.iter().map(|c| format!("{} {}", c.id, c.name)).collect::<Vec<_>>().into()
    };
    if old.categories != new.categories {
        compare("categories", names(&old.categories), names(&new.categories));
    }
    compare(
        "data.train (SHA-256 of its annotations)",
        old.training_set.as_str().into(),
        new.training_set.as_str().into(),
    );
    compare(
        "data.val (SHA-256 of its annotations)",
        old.validation_set.as_str().into(),
        new.validation_set.as_str().into(),
    );
    compare("device", old.device.as_str().into(), new.device.as_str().into());
    compare("threads", old.threads.into(), new.threads.into());
    changes
}

/// A configuration with all keys: those that it lacks, because an earlier version wrote it, have their defaults.
fn complete(config: &Value) -> Value {
    let whole = serde_json::from_value::<RunConfig>(config.clone()).and_then(|config| serde_json::to_value(&config));
    whole.unwrap_or_else(|_| config.clone())
}

/// Calls `add` with the full key and both values of every difference. A list counts as one value.
fn differences(key: &str, old: &Value, new: &Value, add: &mut dyn FnMut(&str, &Value, &Value)) {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        if old != new {
            add(key, old, new);
        }
        return;
    };
    for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
        let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let [old, new] = [a, b].map(|section| section.get(name).unwrap_or(&Value::Null));
        differences(&path, old, new, add);
    }
}

/// Number of characters of a key or a value in a message; the rest of a longer one is left out.
const SHOWN: usize = 80;
/// Number of changes that a message lists.
const LISTED: usize = 12;

/// The changes as a list in a sentence; `None` if there are none. A damaged file can hold any number of keys of any
/// length.
fn list<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<String> {
    let short = |text: &str| first_chars(text, SHOWN);
    let each = |Change { key, old, new, .. }: &Change| {
        format!("{} was {} and is {}", short(key), short(&shown(old)), short(&shown(new)))
    };
    let mut all: Vec<String> = changes.map(each).collect();
    let more = all.len().saturating_sub(LISTED);
    if more > 0 {
        all.truncate(LISTED);
        all.push(format!("and {more} more"));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// A value as JSON, with numbers of single precision in their own digits: 0.485, not 0.48500001430511475.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Number(number) if number.is_f64() => {
            let wide = number.as_f64().unwrap_or_default();
            let single = wide as f32;
            if f64::from(single) == wide { single.to_string() } else { wide.to_string() }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Silent;
    use crate::testing::tiny;

    fn premises(config: &RunConfig) -> Premises {
        let category = |id, name: &str| CategoryInfo { id, name: name.to_owned() };
        Premises {
            config: serde_json::to_value(config).unwrap(),
            categories: vec![category(1, "cat"), category(3, "dog")],
            training_set: "a".to_owned(),
            validation_set: "b".to_owned(),
            steps_per_epoch: 4,
            device: "flex".to_owned(),
            threads: 2,
        }
    }

    fn more_set(weight: f64) -> foveal_data::MoreSet {
        foveal_data::MoreSet { annotations: "x".into(), images: "y".into(), weight }
    }

    /// The result of a resume with the change: `Ok` if it goes on, and otherwise the error's text.
    fn resumed(change: impl FnOnce(&mut RunConfig, &mut Premises), allow: bool) -> Result<(), TrainError> {
        let (old, mut config) = (tiny(), tiny());
        let mut new = premises(&config);
        change(&mut config, &mut new);
        new.config = serde_json::to_value(&config).unwrap();
        compare(&premises(&old), &new, &config, Path::new("r"), allow, &mut Silent)
    }

    #[test]
    fn messages_stay_short_whatever_a_damaged_state_holds() {
        let config = tiny();
        let (mut old, new) = (premises(&config), premises(&config));
        let model = old.config["model"].as_object_mut().unwrap();
        model.insert("[".repeat(50_000), 1.into());
        model.extend((0..500).map(|i| (format!("key{i}"), Value::from("x".repeat(9_000)))));
        let error = compare(&old, &new, &config, Path::new("r"), false, &mut Silent).unwrap_err().to_string();
        assert!(error.len() < 4_000 && error.contains("[[…") && error.contains("and 489 more"), "{error}");
    }

    #[test]
    fn what_the_saved_network_depends_on_is_refused() {
        type Edit = fn(&mut RunConfig, &mut Premises);
        let edits: [(&str, Edit); 9] = [
            ("train.optimizer", |c, _| c.train.optimizer = crate::OptimizerKind::AdamW),
            ("train.seed", |c, _| c.train.seed = 9),
            ("train.ema", |c, _| c.train.ema = 0.9),
            ("model.fpn_channels", |c, _| c.model.fpn_channels += 1),
            ("model.anchors.ratios", |c, _| c.model.anchors.ratios = vec![1.0]),
            ("model.head.level_scales", |c, _| c.model.head.level_scales = true),
            ("categories", |_, p| p.categories[1].name = "wolf".to_owned()),
            ("categories", |_, p| p.categories.reverse()),
            ("categories", |_, p| p.categories[0].id = 2),
        ];
        for (key, edit) in edits {
            for allow in [false, true] {
                let error = resumed(edit, allow).unwrap_err();
                let TrainError::Refused { changes, .. } = &error else { panic!("{key}: {error}") };
                assert!(changes.starts_with(&format!("{key} was ")), "{changes}");
            }
        }
    }

    #[test]
    fn what_changes_the_training_must_be_allowed() {
        type Edit = fn(&mut RunConfig, &mut Premises);
        let edits: [(&str, Edit); 21] = [
            ("train.lr", |c, _| c.train.lr = 0.5),
            ("train.batch_size", |c, _| c.train.batch_size = 3),
            ("train.accumulate", |c, _| c.train.accumulate = 2),
            ("train.overfit", |c, _| c.train.overfit = 2),
            ("train.time_limit", |c, _| c.train.time_limit = 2.0),
            ("loss.kind", |c, _| c.loss.kind = foveal_criterion::ClassLossKind::CrossEntropy),
            ("matcher.positive_iou", |c, _| c.matcher.positive_iou = 0.6),
            ("matcher.kind", |c, _| c.matcher.kind = foveal_anchors::MatcherKind::Atss),
            ("matcher.candidates", |c, _| c.matcher.candidates = 5),
            ("data.mean", |c, _| c.data.mean = [0.1; 3]),
            ("data.sampler", |c, _| c.data.sampler = foveal_data::Sampler::Oversample),
            ("data.group_by_aspect", |c, _| c.data.group_by_aspect = true),
            ("data.augment.flip_vertical", |c, _| c.data.augment.flip_vertical = 0.5),
            ("data.train.images", |c, _| c.data.train.images = Some("x".into())),
            ("data.more_train", |c, _| c.data.more_train.push(more_set(1.0))),
            ("data.backgrounds", |c, _| c.data.backgrounds.push("x".into())),
            ("data.backgrounds_share", |c, _| c.data.backgrounds_share = Some(0.5)),
            ("data.classes.drop", |c, _| c.data.classes.drop.push("cat".to_owned())),
            ("data.classes.rename.cat", |c, _| drop(c.data.classes.rename.insert("cat".to_owned(), "pet".to_owned()))),
            ("data.train (SHA-256 of its annotations)", |_, p| p.training_set = "c".to_owned()),
            ("data.val (SHA-256 of its annotations)", |_, p| p.validation_set = "c".to_owned()),
        ];
        for (key, edit) in edits {
            let error = resumed(edit, false).unwrap_err();
            let TrainError::Changed { changes, .. } = &error else { panic!("{key}: {error}") };
            assert!(changes.starts_with(&format!("{key} was ")), "{changes}");
            resumed(edit, true).unwrap();
        }
    }

    #[test]
    fn values_are_shown_in_their_own_digits() {
        let shows = |value: Value, text: &str| assert_eq!(shown(&value), text);
        shows(serde_json::to_value([0.485_f32, 0.5]).unwrap(), "[0.485, 0.5]");
        shows(serde_json::json!(1e-4), "0.0001");
        shows(serde_json::json!(["a", 3, null]), r#"["a", 3, null]"#);
    }

    #[test]
    fn epochs_matter_to_a_cosine_and_to_closing_epochs_and_other_settings_are_told() {
        assert!(resumed(|c, _| c.train.epochs += 1, false).is_ok());
        assert!(resumed(|c, _| c.data.cache.kind = foveal_data::CacheKind::Memory, false).is_ok());
        assert!(resumed(|c, _| c.train.cosine_epochs = 1.5, false).is_ok());
        let mut cosine = tiny();
        cosine.train.schedule = ScheduleKind::Cosine;
        let mut longer = cosine.clone();
        longer.train.epochs += 1;
        let result = compare(&premises(&cosine), &premises(&longer), &longer, Path::new("r"), false, &mut Silent);
        assert!(matches!(result, Err(TrainError::Changed { .. })), "{result:?}");
        // With an end of its own the cosine does not follow the epochs, but its end matters.
        let ends = |end: f64, epochs: usize| {
            let mut config = cosine.clone();
            (config.train.cosine_epochs, config.train.epochs) = (end, epochs);
            config
        };
        let (old, longer, later) = (ends(1.5, 2), ends(1.5, 4), ends(1.75, 2));
        let check = |new: &RunConfig| compare(&premises(&old), &premises(new), new, Path::new("r"), false, &mut Silent);
        check(&longer).unwrap();
        let error = check(&later).unwrap_err();
        assert!(matches!(&error, TrainError::Changed { changes, .. } if changes.contains("cosine_epochs")), "{error}");
        let mut closing = tiny();
        closing.data.augment.close_epochs = 1;
        closing.data.augment.transforms = vec![Transform::Mosaic(foveal_data::Mosaic::default())];
        let mut longer = closing.clone();
        longer.train.epochs += 1;
        let result = compare(&premises(&closing), &premises(&longer), &longer, Path::new("r"), false, &mut Silent);
        assert!(matches!(result, Err(TrainError::Changed { .. })), "{result:?}");

        #[derive(Default)]
        struct Messages(Vec<String>);
        impl Progress for Messages {
            fn message(&mut self, text: &str) {
                self.0.push(text.to_owned());
            }
        }
        let (mut config, mut messages) = (tiny(), Messages::default());
        (config.train.keep, config.data.workers) = (7, 3);
        config.train.precision = foveal_detector::ComputePrecision::F16;
        config.model.weights = Some("moved/r18.pth".into());
        let new = Premises { threads: 5, ..premises(&config) };
        compare(&premises(&tiny()), &new, &config, Path::new("r"), false, &mut messages).unwrap();
        let [told] = &messages.0[..] else { panic!("{:?}", messages.0) };
        for part in [
            "train.keep was 0 and is 7",
            "train.precision was \"f32\" and is \"f16\"",
            "model.weights was null",
            "data.workers was ",
            "threads was 2 and is 5",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}
