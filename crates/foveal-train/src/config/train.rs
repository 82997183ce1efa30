//! `[train]`.

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pass::Activations;

/// How weights follow gradients (`train.optimizer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum, as torch has it (no dampening).
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (arXiv 1711.05101), as torch has it.
    AdamW,
}

/// How the learning rate falls after the warm-up (`train.schedule`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// By `gamma` at each of `milestones`.
    #[default]
    Step,
    /// Along half a cosine to 0 at the end.
    Cosine,
    /// Not at all.
    Constant,
}

/// How the loss is minimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training set.
    pub epochs: usize,
    /// Stop after this many optimizer steps, whatever `epochs` says; 0: never. The schedule stays that of `epochs`.
    pub max_steps: usize,
    /// Images a forward pass.
    pub batch_size: usize,
    /// Batches that share one update: `accumulate` batches of `batch_size` act as one of their product.
    pub accumulate: usize,
    /// Compute the backbone's stages twice instead of keeping their maps for the gradients: less memory, a longer step
    /// (arXiv 1604.06174). Not with batch norm, whose statistics would count a batch twice.
    pub activation_checkpointing: bool,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Learning rate, for 16 images an update where `scale_lr` is on.
    pub lr: f64,
    /// Scale the learning rate with `batch_size * accumulate / 16` (arXiv 1706.02677, section 2.1).
    pub scale_lr: bool,
    /// SGD's momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Decay norms and biases too, not only the weights of convolutions.
    pub decay_norms: bool,
    /// AdamW's decay rates of the two moments.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Factor of the learning rate for the residual network; 0 leaves it as it is.
    pub backbone_lr: f64,
    /// Factor of the learning rate for what `model.weights` did not give: from a checkpoint the rebuilt class layer, from
    /// an ImageNet file the pyramid and the heads.
    pub new_layers_lr: f64,
    /// How the learning rate falls.
    pub schedule: ScheduleKind,
    /// Epochs after which a `step` schedule falls; fractions are allowed.
    pub milestones: Vec<f64>,
    /// By what a `step` schedule falls.
    pub gamma: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Where the warm-up begins, as a fraction of the learning rate.
    pub warmup_factor: f64,
    /// Largest norm of all gradients together; 0: no clipping.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights, which is then what is evaluated and kept; 0: off.
    pub ema: f64,
    /// Seed of initial weights, order and augmentation.
    pub seed: u64,
    /// Epochs between evaluations; the last epoch is always evaluated. 0: only the last.
    pub eval_every: usize,
    /// Train and evaluate on this many training images alone, unaugmented, to prove a set-up; 0: off.
    pub overfit: usize,
    /// Steps between log lines; 0: 1 on a CPU, 20 on a GPU, which then is not waited for in between.
    pub log_every: usize,
    /// Stop before the first update when the class loss is not what prior, loss and data make it.
    pub step0_check: bool,
    /// Checkpoints of past epochs to keep besides `last` and `best`.
    pub keep: usize,
}

impl Default for TrainConfig {
    /// The paper's recipe (arXiv 1708.02002, section 4.1) on Detectron2's 1x schedule (60k and 80k of 90k steps).
    fn default() -> Self {
        Self {
            epochs: 12,
            max_steps: 0,
            batch_size: 4,
            accumulate: 1,
            activation_checkpointing: false,
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
            warmup_steps: 500,
            warmup_factor: 0.001,
            clip_norm: 0.0,
            ema: 0.0,
            seed: 0,
            eval_every: 1,
            overfit: 0,
            log_every: 0,
            step0_check: true,
            keep: 0,
        }
    }
}

/// Images an update that published learning rates are for.
const REFERENCE_BATCH: f64 = 16.0;

impl TrainConfig {
    /// The learning rate after warm-up and before any fall.
    pub fn base_lr(&self) -> f64 {
        let images = (self.batch_size * self.accumulate) as f64;
        if self.scale_lr { self.lr * images / REFERENCE_BATCH } else { self.lr }
    }

    /// What forward passes keep.
    pub(crate) fn activations(&self) -> Activations {
        if self.activation_checkpointing { Activations::Recomputed } else { Activations::Kept }
    }

    pub(super) fn validate(&self) -> Result<(), SettingError> {
        check::at_least_one("epochs", self.epochs)?;
        check::at_least_one("batch_size", self.batch_size)?;
        check::at_least_one("accumulate", self.accumulate)?;
        check::positive("lr", self.lr)?;
        check::below_one("momentum", self.momentum)?;
        check::not_negative("weight_decay", self.weight_decay)?;
        check::below_one("betas", self.betas[0])?;
        check::below_one("betas", self.betas[1])?;
        check::positive("eps", self.eps)?;
        check::not_negative("backbone_lr", self.backbone_lr)?;
        check::not_negative("new_layers_lr", self.new_layers_lr)?;
        let rising = self.milestones.windows(2).all(|w| w[0] < w[1]) && self.milestones.iter().all(|m| *m > 0.0);
        check::that(rising, "milestones", "epochs above 0 in rising order", &self.milestones)?;
        check::positive("gamma", self.gamma)?;
        check::fraction("warmup_factor", self.warmup_factor)?;
        check::not_negative("clip_norm", self.clip_norm)?;
        check::below_one("ema", self.ema)
    }
}
