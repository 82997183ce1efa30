//! The session of a run: network, optimizer and moving average, either new or restored from an earlier run.

use std::path::Path;

use burn::tensor::Device;
use foveal_base::write_atomically;
use foveal_coco::CategoryInfo;
use foveal_weights::{load_tensors, named_tensors};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::run::{LogPosition, LossScaling, Progress, RunDir, StateMeta, TrainState, weight_report};
use crate::update::{Ema, FIRST_SCALE, Learner, LossScaler, LrGroups, Optimizer, from_host, to_host};

mod fit;

/// The parts of a run that training changes: network, optimizer, moving average of the weights, and counters.
pub(crate) struct Session {
    /// The network, the optimizer and the moving average of the weights.
    pub learner: Learner,
    /// Counters, seed and the configuration of the network. The counters of optimizer and moving average are filled in
    /// when the state is written.
    pub meta: StateMeta,
    /// Whether no tensor of the class head was loaded from a weight file or an earlier run.
    pub new_class_head: bool,
}

/// Part that the paths of all tensors of the class head contain.
const CLASS_HEAD: &str = "classification_head.";

impl Session {
    /// The session of a new run: seeded weights, replaced by those of `model.weights` where it names a file. Reports
    /// what was loaded.
    ///
    /// # Errors
    /// [`TrainError::Model`] when the network cannot be built or its weights cannot be loaded, [`TrainError::Write`]
    /// when `weights.json` cannot be written.
    pub(crate) fn start(
        config: &RunConfig,
        categories: &[CategoryInfo],
        device: &Device,
        run: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let built = config.model.build_for(categories, config.train.seed, device)?;
        if let Some(report) = &built.report {
            weight_report::write(report, &built.config, run)?;
            progress.message(&weight_report::summary(report, &built.config, run));
        }
        for difference in &built.differences {
            progress.message(&format!("warning: {difference}; the pretrained weights will give different features"));
        }
        let ema = (config.train.ema > 0.0).then(|| Ema::new(config.train.ema, &built.model));
        let mut optimizer = Optimizer::new(&config.train);
        optimizer.groups = LrGroups::new(&config.train, &built.new_tensors);
        if let Some(line) = optimizer.groups.describe() {
            progress.message(&line);
        }
        let new_class_head = !built.report.iter().flat_map(|r| &r.loaded).any(|name| name.contains(CLASS_HEAD));
        let mut meta = StateMeta::start(config.train.seed, built.config, built.new_tensors);
        let precision = config.train.precision;
        meta.loss_scaling = precision.scales_loss().then(LossScaling::default);
        let learner = Learner::new(built.model, optimizer, ema).in_precision(precision, FIRST_SCALE, device);
        Ok(Self { learner, meta, new_class_head })
    }

    /// The session of an earlier run after the optimizer step that `state` was saved at. The settings of the run were
    /// compared with `config` before.
    ///
    /// # Errors
    /// [`TrainError::State`] when the tensors of the state are not those of the network and the optimizer.
    pub(crate) fn resume(
        config: &RunConfig,
        classes: usize,
        device: &Device,
        path: &Path,
        state: TrainState,
    ) -> Result<Self, TrainError> {
        let bad = |found: String| TrainError::State { path: path.to_owned(), found };
        // The class channels come from the file: they could describe a network too large for memory.
        let held = state.weights.values().map(|t| t.values.len()).sum();
        state.meta.model.fits_in(held, classes).map_err(bad)?;
        state.meta.model.validate().map_err(|e| bad(e.within("model").to_string()))?;
        let skeleton = state.meta.model.skeleton(classes, device);
        let (mut model, report) = load_tensors(skeleton, &state.weights);
        if let Some(name) = report.missing.first().or(report.mismatched.first().map(|m| &m.name)) {
            return Err(bad(format!(
                "expected a tensor {name} with the shape that the network has, found none; the categories of the data \
                 or the [model] settings have changed"
            )));
        }
        model.backbone.body = model.backbone.body.freeze_stages(state.meta.model.freeze_stages);
        fit::check(&state, &model, config).map_err(bad)?;
        let mut optimizer = Optimizer::new(&config.train);
        optimizer.groups = match &state.meta.new_tensors {
            Some(new) => LrGroups::new(&config.train, new),
            None if config.train.new_layers_lr == 1.0 => LrGroups::new(&config.train, &[]),
            None => return Err(bad(
                "train.new_layers_lr needs the names of the new layers, which this state of an earlier version does \
                     not contain; set train.new_layers_lr = 1"
                    .into(),
            )),
        };
        optimizer.first = from_host(&state.first, &model, device);
        optimizer.second = from_host(&state.second, &model, device);
        optimizer.updates = state.meta.optimizer_updates;
        let ema = (config.train.ema > 0.0).then(|| {
            let mut ema = Ema::new(config.train.ema, &model);
            ema.average = from_host(&state.ema, &model, device);
            ema.updates = state.meta.ema_updates;
            ema
        });
        // A run that went on in another precision begins with the first scale.
        let precision = config.train.precision;
        let mut meta = state.meta;
        meta.loss_scaling = precision.scales_loss().then(|| meta.loss_scaling.unwrap_or_default());
        let scale = meta.loss_scaling.unwrap_or_default().scale;
        let learner = Learner::new(model, optimizer, ema).in_precision(precision, scale, device);
        Ok(Self { learner, meta, new_class_head: false })
    }

    /// The loss scale of the next step and the counts of [`StateMeta::loss_scaling`]; `None` without a loss scale.
    /// Waits for the device.
    pub(crate) fn loss_scaling(&self) -> Option<LossScaling> {
        let scaling = self.meta.loss_scaling?;
        let scale = self.learner.scaler.as_ref().map_or(scaling.scale, LossScaler::read);
        Some(LossScaling { scale, ..scaling })
    }

    /// Number of class channels of the network for a data set of `classes` classes.
    pub(crate) fn channels(&self, classes: usize) -> usize {
        self.meta.model.class_channels.as_ref().map_or(classes, |channels| channels.count)
    }

    /// Writes the training state to the run folder; the one before it is kept. `log` is the part of the log of the
    /// epoch in progress that is not in `log.jsonl`, and `None` between epochs. Waits for the device, because every
    /// weight is read.
    ///
    /// # Errors
    /// [`TrainError::NonFiniteState`] when a weight or moment is NaN or infinite, [`TrainError::Io`] or
    /// [`TrainError::Write`] when a file cannot be written. The states that were saved before are then unchanged.
    pub(crate) fn save(&self, run: &RunDir, log: Option<LogPosition>) -> Result<(), TrainError> {
        let (optimizer, ema) = (&self.learner.optimizer, self.learner.ema.as_ref());
        let meta = StateMeta {
            optimizer_updates: optimizer.updates,
            ema_updates: ema.map_or(0, |ema| ema.updates),
            loss_scaling: self.loss_scaling(),
            log,
            ..self.meta.clone()
        };
        let state = TrainState {
            meta,
            weights: named_tensors(self.learner.model()),
            ema: ema.map(|ema| to_host(&ema.average)).unwrap_or_default(),
            first: to_host(&optimizer.first),
            second: to_host(&optimizer.second),
        };
        let bytes = state.to_bytes()?;
        run.keep_previous_state()?;
        Ok(write_atomically(&run.state(), &bytes)?)
    }
}
