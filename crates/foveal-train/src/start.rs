//! What a run begins with: data, network, optimizer, average; new or as an earlier run left them.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use foveal_coco::CategoryInfo;
use foveal_data::{AugmentConfig, CheckReport, DataConfig, Dataset};
use foveal_detector::{LoadReport, ModelConfig, RetinaNet};
use foveal_weights::{load_tensors, named_tensors};

use crate::config::RunConfig;
use crate::ema::Ema;
use crate::error::TrainError;
use crate::file::write_atomically;
use crate::optim::{LrGroups, Optimizer};
use crate::params::{from_host, to_host};
use crate::progress::Progress;
use crate::rundir::RunDir;
use crate::skipped::SkipList;
use crate::state::{StateMeta, TrainState};

/// Names shown of a list that may be long.
const SHOWN: usize = 6;

/// The sets of a run.
pub(crate) struct Sets {
    pub train: Arc<Dataset>,
    pub val: Arc<Dataset>,
    /// `data` of the config, without augmentation where `train.overfit` is on.
    pub data: DataConfig,
    /// What was left out of them.
    pub skipped: SkipList,
}

impl Sets {
    /// Opens and checks both sets; what is left out goes to `skipped.json`.
    pub(crate) fn open(config: &RunConfig, run: &RunDir, progress: &mut dyn Progress) -> Result<Self, TrainError> {
        let mut data = config.data.clone();
        let opened = data.open_train()?;
        let mut skipped = SkipList::new(run.skipped());
        note("training", &opened.report, &mut skipped, progress)?;
        let (train, val) = if config.train.overfit > 0 {
            data.augment = AugmentConfig::off();
            let few = Arc::new(opened.dataset.subset(config.train.overfit));
            progress.message(&format!("overfitting {} training images, which are evaluated as well", few.len()));
            (Arc::clone(&few), few)
        } else {
            let val = data.open_val_with(Some(opened.dataset.label_map()))?;
            note("validation", &val.report, &mut skipped, progress)?;
            (Arc::new(opened.dataset), Arc::new(val.dataset))
        };
        for (set, dataset) in [("training", &train), ("validation", &val)] {
            if dataset.is_empty() {
                return Err(TrainError::Empty { set });
            }
        }
        Ok(Self { train, val, data, skipped })
    }

    /// Training objects of each class.
    pub(crate) fn objects_by_class(&self) -> Vec<usize> {
        self.train.objects_by_class()
    }

    pub(crate) fn categories(&self) -> &[CategoryInfo] {
        self.train.label_map().categories()
    }
}

/// Tells what a set is and notes what was left out of it.
fn note(
    set: &'static str,
    report: &CheckReport,
    skipped: &mut SkipList,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    progress.message(&format!("{set} set: {}", report.summary()));
    skipped.add(set, &report.skipped)
}

/// All that a step changes.
pub(crate) struct Session {
    pub model: RetinaNet,
    pub optimizer: Optimizer,
    pub ema: Option<Ema>,
    pub meta: StateMeta,
    /// Whether all of the class head is new: nothing of it from a weight file or an earlier run.
    pub new_class_head: bool,
}

/// Part of the paths of the class head's tensors.
const CLASS_HEAD: &str = "classification_head.";

impl Session {
    /// Seeded weights, pretrained ones over them where the config names a file.
    pub(crate) fn start(
        config: &RunConfig,
        categories: &[CategoryInfo],
        device: &Device,
        run: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let built = config.model.build_for(categories, config.train.seed, device)?;
        if let Some(report) = &built.report {
            write_fates(report, &built.config, run)?;
            progress.message(&loaded(report, &built.config, run));
        }
        for difference in &built.differences {
            progress.message(&format!("careful: {difference}; the same weights then give other features"));
        }
        let ema = (config.train.ema > 0.0).then(|| Ema::new(config.train.ema, &built.model, device));
        let mut optimizer = Optimizer::new(&config.train);
        optimizer.groups = LrGroups::new(&config.train, &built.new_tensors);
        if let Some(line) = optimizer.groups.describe() {
            progress.message(&line);
        }
        let new_class_head = !built.report.iter().flat_map(|r| &r.loaded).any(|name| name.contains(CLASS_HEAD));
        let meta = StateMeta::start(config.train.seed, built.config, built.new_tensors);
        Ok(Self { model: built.model, optimizer, ema, meta, new_class_head })
    }

    /// The state that an earlier run left.
    pub(crate) fn resume(
        config: &RunConfig,
        classes: usize,
        device: &Device,
        run: &RunDir,
    ) -> Result<Self, TrainError> {
        let path = run.state();
        let state = TrainState::load(&path)?;
        let bad = |found: String| TrainError::State { path: path.clone(), found };
        let seed = config.train.seed;
        if state.meta.seed != seed {
            return Err(bad(format!("a run with train.seed = {}, resumed with {seed}", state.meta.seed)));
        }
        let wanted = ModelConfig {
            live_norms: state.meta.model.live_norms.clone(),
            class_channels: state.meta.model.class_channels.clone(),
            ..config.model.clone()
        };
        if (ModelConfig { weights: None, ..wanted }) != (ModelConfig { weights: None, ..state.meta.model.clone() }) {
            return Err(bad("a run with another [model], which cannot be resumed with this one".into()));
        }
        if state.ema.is_empty() == (config.train.ema > 0.0) {
            return Err(bad("train.ema was switched on or off since; a resumed run must keep it".into()));
        }
        let skeleton = state.meta.model.skeleton(classes, device);
        let (mut model, report) = load_tensors(skeleton, &state.weights);
        if let Some(name) = report.missing.first().or(report.mismatched.first().map(|m| &m.name)) {
            return Err(bad(format!("a state without a fitting {name}: the data or the model changed since")));
        }
        model.backbone.body = model.backbone.body.freeze_stages(state.meta.model.freeze_stages);
        let mut optimizer = Optimizer::new(&config.train);
        optimizer.groups = match &state.meta.new_tensors {
            Some(new) => LrGroups::new(&config.train, new),
            None if config.train.new_layers_lr == 1.0 => LrGroups::new(&config.train, &[]),
            None => return Err(bad("a state that does not say which layers were new: train.new_layers_lr".into())),
        };
        optimizer.first = from_host(&state.first, device);
        optimizer.second = from_host(&state.second, device);
        optimizer.updates = state.meta.optimizer_updates;
        let ema = (config.train.ema > 0.0).then(|| {
            let mut ema = Ema::new(config.train.ema, &model, device);
            ema.average = from_host(&state.ema, device);
            ema.updates = state.meta.ema_updates;
            ema
        });
        Ok(Self { model, optimizer, ema, meta: state.meta, new_class_head: false })
    }

    /// Class channels of the network, where there are so many classes.
    pub(crate) fn channels(&self, classes: usize) -> usize {
        self.meta.model.class_channels.as_ref().map_or(classes, |channels| channels.count)
    }

    /// The network that is evaluated and kept: the average where there is one.
    pub(crate) fn network(&self) -> RetinaNet {
        match &self.ema {
            Some(ema) => ema.apply(&self.model),
            None => self.model.valid(),
        }
    }

    /// Writes the state. Reads every weight from the device.
    pub(crate) fn save(&self, run: &RunDir) -> Result<(), TrainError> {
        let mut meta = self.meta.clone();
        meta.optimizer_updates = self.optimizer.updates;
        meta.ema_updates = self.ema.as_ref().map_or(0, |e| e.updates);
        let state = TrainState {
            meta,
            weights: named_tensors(&self.model),
            ema: self.ema.as_ref().map(|e| to_host(&e.average)).unwrap_or_default(),
            first: to_host(&self.optimizer.first),
            second: to_host(&self.optimizer.second),
        };
        state.save(&run.state())
    }
}

/// The names of a list, the first few of them.
fn few(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// Tensors of the network that the file did not give.
fn rebuilt(report: &LoadReport) -> Vec<String> {
    let mut names: Vec<String> =
        report.missing.iter().chain(report.mismatched.iter().map(|m| &m.name)).cloned().collect();
    names.sort();
    names
}

fn file(model: &ModelConfig) -> String {
    model.weights.as_ref().map(|w| w.display().to_string()).unwrap_or_default()
}

/// One line on what a weight file gave; `weights.json` of the run has all names.
fn loaded(report: &LoadReport, model: &ModelConfig, run: &RunDir) -> String {
    let mut text = format!("{}: {} tensors loaded", file(model), report.loaded.len());
    for (what, names) in [("rebuilt", &rebuilt(report)), ("left", &report.unused)] {
        if !names.is_empty() {
            text += &format!("; {} {what} ({})", names.len(), few(names));
        }
    }
    format!("{text}; all of them in {}", run.weights().display())
}

/// Every tensor's fate: `loaded` from the file, `rebuilt` with new weights (`other_shapes` are those that the file has
/// otherwise), `left` in the file.
fn write_fates(report: &LoadReport, model: &ModelConfig, run: &RunDir) -> Result<(), TrainError> {
    let shapes: Vec<serde_json::Value> = report
        .mismatched
        .iter()
        .map(|m| serde_json::json!({"name": m.name, "expected": m.expected, "found": m.found}))
        .collect();
    let fates = serde_json::json!({
        "file": file(model), "loaded": report.loaded, "rebuilt": rebuilt(report), "left": report.unused,
        "other_shapes": shapes,
    });
    let text = serde_json::to_string_pretty(&fates).expect("names are JSON");
    write_atomically(&run.weights(), text.as_bytes())
}
