//! Batch size, epochs, learning rate and evaluations, fitted to the time where it is limited.

use super::Setting;
use super::input::Input;
use super::network::Network;
use crate::commands::init::facts::{Facts, Timed, WeightFacts};

/// Images that a run should see at least before larger images are worth more than further epochs: fine-tuning, and from
/// random weights. On BCCD, 2,255 images of 288 px reach an AP50 of .892 in batches of 4, and in batches of 8, 2,870 of
/// 288 px .889, 3,280 of 256 px .882, 4,700 of 224 px .877 and 6,200 of 192 px .873.
const ENOUGH: [usize; 2] = [2_200, 16_000];
/// Images that a run without a limit on time sees.
const WISHED: [usize; 2] = [8_000, 24_000];
/// Fewest and most epochs of a run without a limit on time. The fewest are the 1x schedule of Detectron2 for
/// fine-tuning.
const EPOCHS: [[usize; 2]; 2] = [[12, 80], [24, 120]];
/// Images of a batch on a CPU and on a GPU.
const BATCH: [usize; 2] = [8, 16];
/// Fewest optimizer steps of an epoch that a smaller batch is chosen for.
const LEAST_STEPS: usize = 16;
/// Optimizer steps of a run below which half the batch is used, and the smallest batch that is halved for it. On BCCD,
/// 2,870 images of 256 px in batches of 8 (364 steps) reach an AP50 of .869, in batches of 4 (728 steps) .882 with a
/// learning rate of 1e-3 and .878 with 5e-4. On the set of configs/smallobjects.toml, from random weights, 3,000 images
/// of 448 px in batches of 8 (380 steps) reach an AP of .522, in batches of 4 (750 steps) .574.
const FEW_STEPS: usize = 500;
const HALVED: usize = 8;
/// Part of the time that is planned for, and that evaluations may take.
const ROOM: f64 = 0.94;
const EVALUATION_SHARE: f64 = 0.1;
/// Seconds for reading the data set, the weights and for writing checkpoints.
const OVERHEAD: f64 = 3.0;
/// Seconds for the report after an evaluation, measured on the 87 validation images of BCCD.
const REPORT: f64 = 2.0;
/// Evaluations in a run.
const EVALUATIONS: usize = 5;
/// Images of an evaluation batch.
const EVAL_BATCH: i64 = 8;
/// Learning rates of AdamW for a batch of 8 images: narrow, half-wide and wide heads.
const RATES: [(usize, f64); 3] = [(64, 1e-3), (128, 5e-4), (usize::MAX, 2e-4)];
/// Factor of the learning rate from random weights for heads of at most 64 channels, as in configs/quickstart.toml and
/// configs/longtail.toml.
const SCRATCH_FACTOR: f64 = 2.0;
const SCRATCH_CHANNELS: usize = 64;
/// Factor of the learning rate for a checkpoint, of which all layers are trained already.
const CHECKPOINT_FACTOR: f64 = 0.5;
/// Images of a batch that the learning rates are for.
const RATE_BATCH: f64 = 8.0;
/// Part of the steps in which the learning rate rises, and the limits of their number in short and long runs.
const WARM_UP: usize = 20;
const WARM_UP_STEPS: [usize; 3] = [10, 100, 500];
/// Number of steps from which a run is long.
const LONG: usize = 10_000;
/// Decay of the moving average of the weights by the number of steps of the run.
const AVERAGES: [(usize, f64); 4] = [(600, 0.98), (6_000, 0.99), (30_000, 0.998), (usize::MAX, 0.9995)];

/// Index of a run in the tables: 0 for fine-tuning, 1 from random weights.
fn kind(facts: &Facts) -> usize {
    usize::from(facts.weights.is_none())
}

/// Images that a run should see at least: all images of three epochs, or the number of the table if that is more.
pub(super) fn enough_images(facts: &Facts, epoch_images: usize) -> usize {
    ENOUGH[kind(facts)].max(3 * epoch_images)
}

/// The time of a run, predicted from a timed step. The time of an image is proportional to its area.
pub(super) struct Budget<'a> {
    facts: &'a Facts,
    timed: Timed,
    seconds: f64,
}

impl<'a> Budget<'a> {
    /// `None` without a limit or before a step was timed.
    pub(super) fn of(facts: &'a Facts) -> Option<Self> {
        let (minutes, timed) = (facts.minutes?, facts.timed?);
        Some(Self { facts, timed, seconds: (ROOM * 60.0 * minutes - OVERHEAD - timed.start).max(0.0) })
    }

    /// Seconds of training and of inference for an image of this size, with loading.
    fn per_image(&self, network: Network, size: u32) -> [f64; 2] {
        let area = (f64::from(size) / f64::from(self.timed.size)).powi(2);
        let factor = area * network.time_relative_to(self.timed.network);
        let threads = self.facts.device.threads.max(1) as f64;
        [self.timed.train, self.timed.infer].map(|seconds| match self.facts.device.is_cpu {
            // Loading and computing share the cores.
            true => seconds * factor + self.timed.load / threads,
            false => (seconds * factor).max(self.timed.load / (threads - 1.0).max(1.0)),
        })
    }

    /// Seconds of an evaluation, with the report after it.
    fn evaluation(&self, network: Network, size: u32) -> f64 {
        self.facts.val.images as f64 * self.per_image(network, size)[1] + REPORT
    }

    /// The number of evaluations that take at most a tenth of the time, at least one.
    fn evaluations(&self, network: Network, size: u32) -> usize {
        ((EVALUATION_SHARE * self.seconds / self.evaluation(network, size)) as usize).clamp(1, EVALUATIONS)
    }

    /// The number of training images that a run has time for, with its evaluations.
    pub(super) fn images(&self, network: Network, size: u32) -> f64 {
        let evaluations = self.evaluations(network, size) as f64 * self.evaluation(network, size);
        ((self.seconds - evaluations) / self.per_image(network, size)[0].max(1e-9)).max(0.0)
    }
}

/// The length of a run, and what it consists of.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) batch: usize,
    /// Whether the batch was halved for more steps.
    halved: bool,
    accumulate: usize,
    pub(super) epochs: usize,
    epoch_images: usize,
    pub(super) steps: usize,
    /// Number of epochs between evaluations; 0 for one at the end.
    eval_every: usize,
    /// Expected seconds of the run.
    pub(super) seconds: Option<f64>,
    /// Seconds of an image in training, with loading.
    per_image: Option<f64>,
}

impl Schedule {
    pub(super) fn of(facts: &Facts, network: Network, input: &Input, epoch_images: usize) -> Self {
        let budget = Budget::of(facts);
        let [least, most] = EPOCHS[kind(facts)];
        let epochs = match (facts.epochs, &budget) {
            (Some(epochs), _) => epochs,
            (None, None) => WISHED[kind(facts)].div_ceil(epoch_images.max(1)).clamp(least, most),
            (None, Some(budget)) => {
                let affordable = budget.images(network, input.size) / epoch_images.max(1) as f64;
                (affordable as usize).clamp(1, 2 * most)
            }
        };
        let mut wished =
            BATCH[usize::from(!facts.device.is_cpu)].min((epoch_images / LEAST_STEPS).max(2)).min(epoch_images.max(1));
        let few_steps = epochs * epoch_images < FEW_STEPS * wished;
        let halved = few_steps && wished >= HALVED;
        if halved {
            wished /= 2;
        }
        let batch = facts.most_batch.map_or(wished, |most| wished.min(most)).max(1);
        let accumulate = wished.div_ceil(batch);
        let steps = epochs * epoch_images.div_ceil(batch).div_ceil(accumulate);
        let evaluations = budget.as_ref().map_or(EVALUATIONS, |budget| budget.evaluations(network, input.size));
        let eval_every = if evaluations == 1 { 0 } else { epochs.div_ceil(evaluations) };
        let count = if eval_every == 0 { 1 } else { epochs.div_ceil(eval_every) };
        let seconds = budget.as_ref().map(|budget| {
            let training = (epochs * epoch_images) as f64 * budget.per_image(network, input.size)[0];
            training + count as f64 * budget.evaluation(network, input.size) + OVERHEAD + budget.timed.start
        });
        let per_image = budget.map(|budget| budget.per_image(network, input.size)[0]);
        Self { batch, halved, accumulate, epochs, epoch_images, steps, eval_every, seconds, per_image }
    }

    /// Adds the settings of `[train]` and `[eval]`.
    pub(super) fn explain(
        &self,
        facts: &Facts,
        network: Network,
        settings: &mut Vec<Setting>,
        warnings: &mut Vec<String>,
    ) {
        self.explain_length(facts, settings, warnings);
        let mut add = |key: &str, value: toml::Value, reason: String| settings.push(Setting::new(key, value, reason));
        let (lr, reason) = self.learning_rate(facts, network);
        let steps = self.steps;
        add(
            "train.optimizer",
            "adamw".into(),
            "AdamW is used as in configs/bccd.toml and configs/quickstart.toml.".to_owned(),
        );
        add("train.lr", lr.into(), reason);
        add("train.scale_lr", false.into(), "The learning rate is the one for this batch size.".to_owned());
        let decay = [0.01, 0.05][kind(facts)];
        let reason = [
            "Weight decay is weak, because most weights are pretrained.",
            "Weight decay is stronger than for pretrained weights.",
        ][kind(facts)];
        add("train.weight_decay", decay.into(), reason.to_owned());
        add(
            "train.schedule",
            "cosine".into(),
            format!("The learning rate falls to 0 over the {steps} steps of the run."),
        );
        let [low, high, highest] = WARM_UP_STEPS;
        let warm_up = (steps / WARM_UP).clamp(low, if steps < LONG { high } else { highest });
        let reason = format!("The learning rate rises over this many of the {steps} steps of the run.");
        add("train.warmup_steps", (warm_up as i64).into(), reason);
        add(
            "train.clip_norm",
            10.0.into(),
            "The gradient norm is limited, because very large gradients can occur.".to_owned(),
        );
        let decay = AVERAGES.iter().find(|(most, _)| steps <= *most).map_or(0.0, |(_, decay)| *decay);
        let reason = format!(
            "A moving average of the weights over about {:.0} steps is evaluated and kept; the run has {steps} steps.",
            1.0 / (1.0 - decay)
        );
        add("train.ema", decay.into(), reason);
        let reason = match self.eval_every {
            0 => format!("The network is evaluated only at the end, on {} images, to save time.", facts.val.images),
            n => format!(
                "The network is evaluated on {} images every {n} epochs, and the best checkpoint is kept.",
                facts.val.images
            ),
        };
        add("train.eval_every", (self.eval_every as i64).into(), reason);
        add("train.seed", (facts.seed as i64).into(), "Another seed gives another run.".to_owned());
        let reason = "Evaluation needs less memory than training, because it keeps no feature maps for gradients.";
        add("eval.batch_size", EVAL_BATCH.into(), reason.to_owned());
    }

    /// Batch and epochs.
    fn explain_length(&self, facts: &Facts, settings: &mut Vec<Setting>, warnings: &mut Vec<String>) {
        let Self { batch, accumulate, epochs, epoch_images, steps, .. } = self;
        let mut add = |key: &str, value: toml::Value, reason: String| settings.push(Setting::new(key, value, reason));
        let seen = epochs * epoch_images;
        let few = if self.halved { " With batches twice as large, the run would have few steps." } else { "" };
        let reason = format!("An epoch of {epoch_images} images has {} optimizer steps.{few}", steps / epochs);
        add("train.batch_size", (*batch as i64).into(), reason);
        if *accumulate > 1 {
            let reason =
                format!("The memory has room for {batch} images, and an optimizer step uses {}.", batch * accumulate);
            add("train.accumulate", (*accumulate as i64).into(), reason);
        }
        let wished = WISHED[kind(facts)];
        let what = ["fine-tuning", "training from random weights"][kind(facts)];
        let reason = match (facts.epochs, facts.minutes, self.per_image, self.seconds) {
            (Some(_), ..) => format!("The number of epochs was given on the command line. The run sees {seen} images."),
            (None, Some(minutes), Some(per_image), Some(seconds)) => format!(
                "An image was measured to take {:.0} ms on {} ({} threads); {seen} images and the evaluations take \
                 about {:.1} of {minutes} minutes.",
                1e3 * per_image,
                facts.device.name,
                facts.device.threads,
                seconds / 60.0
            ),
            _ => format!(
                "The run sees {seen} images in all; {what} needs about {wished}, and at least {} epochs.",
                EPOCHS[kind(facts)][0]
            ),
        };
        add("train.epochs", (*epochs as i64).into(), reason);
        if facts.timed.is_some() && facts.epochs.is_none() && seen < ENOUGH[kind(facts)] / 2 {
            warnings.push(format!(
                "the time is short: the network sees {seen} images, and {what} needs about {wished}. More minutes or a \
                 GPU would help"
            ));
        }
    }

    fn learning_rate(&self, facts: &Facts, network: Network) -> (f64, String) {
        let of_width = RATES.iter().find(|(most, _)| network.fpn_channels <= *most).map_or(0.0, |(_, rate)| *rate);
        let (factor, start) = match facts.weights {
            None if network.fpn_channels <= SCRATCH_CHANNELS => {
                (SCRATCH_FACTOR, ", doubled for random weights as in configs/quickstart.toml")
            }
            Some(WeightFacts::Checkpoint { .. }) => {
                (CHECKPOINT_FACTOR, ", halved because all layers of a checkpoint are trained already")
            }
            _ => (1.0, ""),
        };
        let images = (self.batch * self.accumulate) as f64;
        let exact = of_width * factor * (images / RATE_BATCH).sqrt();
        let lr = format!("{exact:.1e}").parse().unwrap_or(exact);
        let reason = format!(
            "The learning rate is for AdamW, heads of {} channels and {images:.0} images in a step. It is derived from \
             1e-3 for 64 channels and 8 images in configs/bccd.toml{start}.",
            network.fpn_channels
        );
        (lr, reason)
    }
}
