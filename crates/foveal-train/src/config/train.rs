//! The section `[train]` of a configuration: optimizer, learning rate schedule, batch size, length of the run.

use foveal_base::{SettingError, check};
use foveal_detector::ComputePrecision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BestBy, MAX_BATCH};
use crate::pass::Activations;

/// The optimizer, which computes parameter updates from gradients (`train.optimizer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum, computed as in `torch.optim.SGD` without dampening or Nesterov.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (arXiv 1711.05101), computed as in `torch.optim.AdamW`.
    AdamW,
}

/// How the learning rate decreases over the run (`train.schedule`). The warm-up of `train.warmup_steps` is applied on
/// top of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Multiply the learning rate by `train.gamma` at each epoch in `train.milestones`.
    #[default]
    Step,
    /// Decrease along half a cosine from the end of the warm-up to 0 at the end of the run (arXiv 1608.03983), or at
    /// `train.cosine_epochs`.
    Cosine,
    /// Keep the learning rate constant after the warm-up.
    Constant,
}

/// What a run does at an optimizer step whose loss or gradient norm is NaN or infinite (`train.non_finite`). Such a
/// step never changes the weights, and its batch, weights and statistics are kept in `blackbox/` of the run folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonFinitePolicy {
    /// End the run with an error.
    #[default]
    Stop,
    /// Leave the step out and go on with the next one.
    Skip,
    /// Go back to the last saved state and multiply the learning rate by `train.rewind_factor`.
    Rewind,
}

/// The section `[train]` of a configuration: how the loss is minimised, and what is logged, evaluated and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of passes over the training set (epochs); at least 1. Default: `12`.
    pub epochs: usize,
    /// Stop after this many optimizer steps, even if `epochs` is not reached; 0 means no limit. The learning rate
    /// schedule still follows `epochs`. Default: `0`.
    pub max_steps: usize,
    /// Number of images in a forward pass; at least 1. Default: `4`.
    pub batch_size: usize,
    /// Number of batches whose gradients are summed for one optimizer step; at least 1. The losses are normalised over
    /// all of them, so that without batch norms the step equals one with `batch_size * accumulate` images.
    /// Default: `1`.
    pub accumulate: usize,
    /// Recompute the activations of the backbone's stages in the backward pass instead of storing them, which takes
    /// less memory and more time (arXiv 1604.06174). It cannot be combined with `model.norm = "batch"`, whose running
    /// statistics would count each batch twice. Default: `false`.
    pub activation_checkpointing: bool,
    /// The data type of convolutions and feature maps: `f32`, or on GPUs that support it `f16` or `bf16`. Parameters,
    /// statistics of norms, losses and the optimizer are f32 in every case. With `f16` the loss is multiplied by a
    /// scale that follows the gradients; a step whose values overflow is left out, and the run ends after 50 such steps
    /// in a row. `non_finite` must then be `stop`. Evaluations during training use the same data type. Default: `f32`.
    pub precision: ComputePrecision,
    /// The optimizer: `sgd` or `adamw`. Default: `sgd`.
    pub optimizer: OptimizerKind,
    /// Learning rate after the warm-up, above 0. With `scale_lr` it is the learning rate for 16 images in an optimizer
    /// step. Default: `0.01`.
    pub lr: f64,
    /// Multiply `lr` by `batch_size * accumulate / 16` (linear scaling rule, arXiv 1706.02677, section 2.1).
    /// Default: `true`.
    pub scale_lr: bool,
    /// Momentum of SGD, from 0 to below 1; AdamW does not use it. Default: `0.9`.
    pub momentum: f64,
    /// Weight decay, 0 or more: part of the gradient with SGD, decoupled from it with AdamW. Default: `0.0001`.
    pub weight_decay: f64,
    /// Apply weight decay to biases, to the parameters of norm layers and to the factors of pyramid levels
    /// (`model.head.level_scales`) too, not only to the weights of convolutions. Default: `false`.
    pub decay_norms: bool,
    /// Decay rates of AdamW's first and second moment, each from 0 to below 1; SGD does not use them.
    /// Default: `[0.9, 0.999]`.
    pub betas: [f64; 2],
    /// Constant that AdamW adds to the square root of the second moment before the division, above 0; SGD does not use
    /// it. Default: `1e-8`.
    pub eps: f64,
    /// Factor of the learning rate for the backbone without its feature pyramid, 0 or more; 0 does not train it.
    /// Default: `1`.
    pub backbone_lr: f64,
    /// Factor of the learning rate for parameters that were not loaded from `model.weights`, 0 or more. With a
    /// checkpoint of other categories these are those of the class layer, with an ImageNet file those of the feature
    /// pyramid and the heads. It must be 1 where `model.weights` names no file. Default: `1`.
    pub new_layers_lr: f64,
    /// How the learning rate decreases over the run: `step`, `cosine` or `constant`. Default: `step`.
    pub schedule: ScheduleKind,
    /// Numbers of epochs after which the `step` schedule multiplies the learning rate by `gamma`, above 0 and in rising
    /// order. Fractions of an epoch are allowed. Default: `[8, 11]`.
    pub milestones: Vec<f64>,
    /// Factor by which the `step` schedule multiplies the learning rate at each of `milestones`, above 0.
    /// Default: `0.1`.
    pub gamma: f64,
    /// Number of epochs after which the learning rate of the `cosine` schedule is 0; fractions are allowed. With
    /// `max_steps` it lets the cosine end with the run; other schedules do not use it. 0 stands for `epochs`.
    /// Default: `0`.
    pub cosine_epochs: f64,
    /// Number of optimizer steps of the linear learning rate warm-up at the start of the run; 0 means no warm-up.
    /// Default: `500`.
    pub warmup_steps: usize,
    /// Factor of the learning rate at the first step of the warm-up, from 0 to 1; it rises linearly to 1.
    /// Default: `0.001`.
    pub warmup_factor: f64,
    /// Largest L2 norm of all gradients together; larger gradients are scaled down to it
    /// (`torch.nn.utils.clip_grad_norm_`). 0 means no clipping. Default: `0`.
    pub clip_norm: f64,
    /// Decay of an exponential moving average of the weights, from 0 to below 1. Evaluations and checkpoints then use
    /// the averaged weights. 0 means no average. Default: `0`.
    pub ema: f64,
    /// Seed of the initial weights, the order of the images and their augmentation. Default: `0`.
    pub seed: u64,
    /// Number of epochs between evaluations on the validation set. The network is always evaluated at the end of the
    /// run; 0 means only then. Default: `1`.
    pub eval_every: usize,
    /// Train and evaluate on only this many training images, without augmentation, to test that the network can fit
    /// them; 0 means the whole sets. Default: `0`.
    pub overfit: usize,
    /// Number of optimizer steps that a line of `log.jsonl` averages; 0 means 1 on a CPU and 20 on a GPU. Losses are
    /// read from a GPU only when a line is written, so that larger values wait for it less often. Default: `0`.
    pub log_every: usize,
    /// Stop before the first optimizer step if the scores are not those of `model.head.prior`, or the class loss does
    /// not follow from them, the `[loss]` settings and the targets. Only a class head without loaded weights is
    /// checked. Default: `true`.
    pub step0_check: bool,
    /// Minutes between two saves of the training state inside an epoch, 0 or more; fractions are allowed. After a crash
    /// a run goes on from the last one. The state is also saved at the end of each epoch and when the run is
    /// interrupted; 0 means only then. Default: `10`.
    pub save_every: f64,
    /// What to do at a step whose loss or gradient norm is NaN or infinite: `stop` ends the run, `skip` leaves the step
    /// out, `rewind` goes back to the last saved state with a lower learning rate. With `skip` and `rewind` the losses
    /// of every step are read from a GPU, which then waits. With `precision = "f16"` it must be `stop`: steps that
    /// overflow are left out in any case, and are not counted by `max_non_finite`. Default: `stop`.
    pub non_finite: NonFinitePolicy,
    /// Largest number of such steps that a run leaves out or rewinds from; at the next one it ends. `stop` does not use
    /// it. Default: `10`.
    pub max_non_finite: usize,
    /// Factor by which `rewind` multiplies the learning rate of the rest of the run, each time; above 0 and at most 1.
    /// Default: `0.5`.
    pub rewind_factor: f64,
    /// Number of recent epochs whose checkpoints are kept as `checkpoints/epoch-<n>.safetensors`, in addition to `last`
    /// and `best`. Default: `0`.
    pub keep: usize,
    /// Write the numbers of the logs, images of detections and histograms of scores to a file that TensorBoard reads,
    /// `events.out.tfevents.foveal` in the run folder. Default: `true`.
    pub tensorboard: bool,
    /// Number of images of the validation set whose detections are drawn into that file after each evaluation, at most
    /// 100. Default: `4`.
    pub log_images: usize,
    /// Number of optimizer steps after which a line of `log.jsonl` has the class loss of each class. With 0 every line
    /// has it if the network has at most 100 classes; otherwise there are so many lines between two of them that a line
    /// has 100 classes on average. Default: `0`.
    pub log_classes_every: usize,
    /// A command that `foveal train` runs after each epoch through the shell (`sh -c`, on Windows `cmd /C`), with a
    /// JSON object on its standard input: `run`, the `epoch` and its `evaluation` as in `log.jsonl`, and `best`. The
    /// run waits for it, and a failure is a warning. The value is neither saved with the run nor taken from a
    /// configuration that a run has saved. Default: not set.
    #[serde(skip_serializing)]
    pub on_epoch: Option<String>,
    /// The value by which evaluations are compared, for `checkpoints/best.safetensors` and for `patience`: `AP`,
    /// `AP50`, `AR100`, `AP:NAME` for the AP of the class NAME, or `loss` for the total loss on the validation set, of
    /// which the lowest is the best. Default: `AP`.
    pub best_by: BestBy,
    /// Number of evaluations in a row without a gain after which the run ends (early stopping); a gain is a `best_by`
    /// that is better than the best one before by more than `min_gain`. 0 means that the run never ends early.
    /// Default: `0`.
    pub patience: usize,
    /// Smallest gain of `best_by` that starts `patience` anew, 0 or more: a difference of metrics from 0 to 1, or of
    /// losses. Default: `0`.
    pub min_gain: f64,
    /// Minutes that the run may take, with its evaluations; fractions are allowed. If `epochs` and `max_steps` would
    /// take longer, the run is shortened to a number of steps that follows from the duration of its first ones, and the
    /// whole schedule of the learning rate is fitted to it. Such a run is not reproducible, because the number depends
    /// on the speed of the machine. 0 means no limit. Default: `0`.
    pub time_limit: f64,
}

impl Default for TrainConfig {
    /// The optimizer settings of the paper (arXiv 1708.02002, section 4.1), with Detectron2's 1x schedule (learning
    /// rate reduced after 60k and 80k of 90k steps) expressed in epochs.
    fn default() -> Self {
        Self {
            epochs: 12,
            max_steps: 0,
            batch_size: 4,
            accumulate: 1,
            activation_checkpointing: false,
            precision: ComputePrecision::F32,
            optimizer: OptimizerKind::Sgd,
            lr: 0.01,
            scale_lr: true,
            momentum: 0.9,
            weight_decay: 1e-4,
            decay_norms: false,
            betas: [0.9, 0.999],
            eps: 1e-8,
            backbone_lr: 1.0,
            new_layers_lr: 1.0,
            schedule: ScheduleKind::Step,
            milestones: vec![8.0, 11.0],
            gamma: 0.1,
            cosine_epochs: 0.0,
            warmup_steps: 500,
            warmup_factor: 0.001,
            clip_norm: 0.0,
            ema: 0.0,
            seed: 0,
            eval_every: 1,
            overfit: 0,
            log_every: 0,
            step0_check: true,
            save_every: 10.0,
            non_finite: NonFinitePolicy::Stop,
            max_non_finite: 10,
            rewind_factor: 0.5,
            keep: 0,
            tensorboard: true,
            log_images: 4,
            log_classes_every: 0,
            on_epoch: None,
            best_by: BestBy::Ap,
            patience: 0,
            min_gain: 0.0,
            time_limit: 0.0,
        }
    }
}

/// Images of an optimizer step that `lr` is for with `scale_lr`, as in published learning rates for RetinaNet.
const REFERENCE_BATCH: f64 = 16.0;

/// Largest number of epochs, and of epochs or steps between two events.
const MAX_EPOCHS: u64 = 1_000_000;
/// Largest number of optimizer steps.
const MAX_STEPS: u64 = 1_000_000_000_000;
/// Largest number of images of `overfit`.
const MAX_IMAGES: u64 = 1_000_000_000;

impl TrainConfig {
    /// Returns whether training images are augmented: not with `overfit`.
    pub(crate) fn augments(&self) -> bool {
        self.overfit == 0
    }

    /// The learning rate after the warm-up, before the schedule decreases it: `lr`, with `scale_lr` multiplied by
    /// `batch_size * accumulate / 16`.
    pub fn base_lr(&self) -> f64 {
        let images = (self.batch_size * self.accumulate) as f64;
        if self.scale_lr { self.lr * images / REFERENCE_BATCH } else { self.lr }
    }

    /// The number of epochs after which the learning rate of a cosine is 0: `cosine_epochs`, or `epochs` if that is 0.
    pub fn cosine_end(&self) -> f64 {
        if self.cosine_epochs > 0.0 { self.cosine_epochs } else { self.epochs as f64 }
    }

    /// Which activations of the backbone the forward pass stores for the backward pass.
    pub(crate) fn activations(&self) -> Activations {
        if self.activation_checkpointing { Activations::Recomputed } else { Activations::Kept }
    }

    /// Checks that all values are in their ranges.
    ///
    /// # Errors
    /// The first invalid key of the section, the values that are possible and the value found.
    pub(super) fn validate(&self) -> Result<(), SettingError> {
        check::count("epochs", self.epochs, 1..=MAX_EPOCHS)?;
        check::count("max_steps", self.max_steps, 0..=MAX_STEPS)?;
        check::count("batch_size", self.batch_size, 1..=MAX_BATCH)?;
        check::count("accumulate", self.accumulate, 1..=MAX_BATCH)?;
        check::count("warmup_steps", self.warmup_steps, 0..=MAX_STEPS)?;
        check::count("eval_every", self.eval_every, 0..=MAX_EPOCHS)?;
        check::count("overfit", self.overfit, 0..=MAX_IMAGES)?;
        check::count("log_every", self.log_every, 0..=MAX_EPOCHS)?;
        check::count("keep", self.keep, 0..=MAX_EPOCHS)?;
        check::count("log_images", self.log_images, 0..=100)?;
        check::count("log_classes_every", self.log_classes_every, 0..=MAX_EPOCHS)?;
        let empty = self.on_epoch.as_ref().is_some_and(|command| command.trim().is_empty());
        check::that(!empty, "on_epoch", "a command of the shell, or no such key", &"an empty text")?;
        check::count("patience", self.patience, 0..=MAX_EPOCHS)?;
        check::not_negative("min_gain", self.min_gain)?;
        check::not_negative("time_limit", self.time_limit)?;
        check::positive("lr", self.lr)?;
        check::below_one("momentum", self.momentum)?;
        check::not_negative("weight_decay", self.weight_decay)?;
        check::below_one("betas", self.betas[0])?;
        check::below_one("betas", self.betas[1])?;
        check::positive("eps", self.eps)?;
        check::not_negative("backbone_lr", self.backbone_lr)?;
        check::not_negative("new_layers_lr", self.new_layers_lr)?;
        let positive = self.milestones.iter().all(|m| *m > 0.0 && m.is_finite());
        let rising = self.milestones.windows(2).all(|w| w[0] < w[1]) && positive;
        check::that(rising, "milestones", "epochs above 0 in rising order", &self.milestones)?;
        check::positive("gamma", self.gamma)?;
        check::not_negative("cosine_epochs", self.cosine_epochs)?;
        check::fraction("warmup_factor", self.warmup_factor)?;
        check::not_negative("clip_norm", self.clip_norm)?;
        check::not_negative("save_every", self.save_every)?;
        check::positive("rewind_factor", self.rewind_factor)?;
        check::fraction("rewind_factor", self.rewind_factor)?;
        check::that(
            !self.precision.scales_loss() || self.non_finite == NonFinitePolicy::Stop,
            "non_finite",
            "\"stop\" (with train.precision = \"f16\", steps that overflow are left out in any case, and the run ends \
             after 50 of them in a row)",
            &self.non_finite,
        )?;
        check::below_one("ema", self.ema)
    }
}
