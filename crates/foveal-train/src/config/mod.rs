//! The configuration of a training run, as read from a TOML file: all sections and keys, their defaults and valid
//! values.

mod best_by;
mod fit;
mod train;

pub use best_by::BestBy;
pub use train::{NonFinitePolicy, OptimizerKind, ScheduleKind, TrainConfig};

use foveal_anchors::{GridSize, MatcherConfig, grid_sizes};
use foveal_backbone::BackboneNorm;
use foveal_base::{SettingError, check};
use foveal_criterion::LossConfig;
use foveal_data::DataConfig;
use foveal_detector::{ModelConfig, PostprocessConfig};
use foveal_image::{MAX_SIDE, SIZE_DIVISOR, padded_length};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole configuration of a training run: the content of a TOML file. Keys that are left out have their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run, used in the name of its folder: `runs/<name>-<n>`. Letters, digits, `-`, `_` and `.` are
    /// allowed; the first character must not be `.`. Default: `run`.
    pub name: String,
    /// The training and validation sets, image preprocessing, augmentation and sampling.
    pub data: DataConfig,
    /// The network: backbone, feature pyramid, heads, anchors, and the pretrained weights it starts from.
    pub model: ModelConfig,
    /// How anchors are assigned to objects or to the background by their IoU.
    pub matcher: MatcherConfig,
    /// The class loss and the box loss, their weights and their normalizer.
    pub loss: LossConfig,
    /// The optimizer, the learning rate schedule and the length of the run; logging and evaluation intervals.
    pub train: TrainConfig,
    /// Thresholds that turn the network's output into detections, and the batch size of evaluations.
    pub eval: EvalConfig,
    /// The random data and the number of steps that `foveal bench` uses.
    pub bench: BenchConfig,
}

/// The name of a run whose configuration does not set `name`.
const DEFAULT_NAME: &str = "run";

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            data: DataConfig::default(),
            model: ModelConfig::default(),
            matcher: MatcherConfig::default(),
            loss: LossConfig::default(),
            train: TrainConfig::default(),
            eval: EvalConfig::default(),
            bench: BenchConfig::default(),
        }
    }
}

impl RunConfig {
    /// Reads a configuration from TOML without checking its values ([`validate`](Self::validate)). Keys that are
    /// missing get their defaults. Unlike `toml::from_str`, it is compiled once, in this crate, and not in each crate
    /// that calls it.
    ///
    /// # Errors
    /// Those of `toml::from_str`: invalid TOML, an unknown key, or a value of another type.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Checks that all values are in their ranges and do not contradict each other.
    ///
    /// # Errors
    /// The first invalid key with its sections (`model.head.prior`), the values that are possible and the value found.
    pub fn validate(&self) -> Result<(), SettingError> {
        let plain = !self.name.is_empty() && self.name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        check::that(
            plain && !self.name.starts_with('.'),
            "name",
            "letters, digits, '-', '_' and '.' (it becomes part of a folder's name)",
            &self.name,
        )?;
        self.matcher.validate().map_err(|e| e.within("matcher"))?;
        self.loss.validate().map_err(|e| e.within("loss"))?;
        self.train.validate().map_err(|e| e.within("train"))?;
        self.eval.validate().map_err(|e| e.within("eval"))?;
        self.bench.validate().map_err(|e| e.within("bench"))?;
        self.data.validate().map_err(|e| e.within("data"))?;
        self.model.validate().map_err(|e| e.within("model"))?;
        self.validate_together()
    }

    /// Checks combinations of values from different sections.
    fn validate_together(&self) -> Result<(), SettingError> {
        let fixed = self.model.norm.has_fixed_statistics();
        check::that(
            fixed || (self.model.norm_eps as f32).is_normal(),
            "model.norm_eps",
            "a number above 0 (norms whose statistics are computed divide by 0 where all values are equal; 0 is for \
             model.norm = \"frozen_batch\" or \"frozen_statistics\")",
            &self.model.norm_eps,
        )?;
        let size = self.data.fixed_size.unwrap_or([self.data.min_size, self.data.max_size]);
        let size = size.map(|side| side.min(MAX_SIDE) as usize);
        fits("train.batch_size", self.train.batch_size, size)?;
        fits("eval.batch_size", self.eval.batch_size, size)?;
        self.fits_anchors(size)?;
        if let Some(canvas) = self.data.augment.fixed_canvas() {
            let canvas = canvas.map(|side| side as usize);
            fits("train.batch_size", self.train.batch_size, canvas)?;
            self.fits_anchors(canvas)?;
        }
        let new_layers = self.train.new_layers_lr;
        check::that(
            new_layers == 1.0 || self.model.weights.is_some(),
            "train.new_layers_lr",
            "1 (without model.weights, train.lr already applies to all layers)",
            &new_layers,
        )?;
        check::that(
            !self.train.activation_checkpointing || self.model.norm != BackboneNorm::Batch,
            "train.activation_checkpointing",
            "false (with model.norm = \"batch\", a second forward pass would count each batch twice in the norm statistics)",
            &true,
        )
    }

    /// Checks the number of anchors of an image of this height and width in pixels.
    fn fits_anchors(&self, size: [usize; 2]) -> Result<(), SettingError> {
        let [height, width] = size.map(padded_length);
        let locations: usize = grid_sizes(height, width).iter().map(GridSize::positions).sum();
        let anchors = locations * self.model.anchors.anchors_per_location();
        check::that(
            anchors <= MAX_ANCHORS,
            "model.anchors.scales",
            &format!("scales and ratios with at most {MAX_ANCHORS} anchors in images of {height}x{width} pixels"),
            &format_args!("{} with {anchors} anchors", self.model.anchors.scales),
        )
    }
}

/// Largest number of images of a batch.
pub(super) const MAX_BATCH: u64 = 4096;
/// Largest number of steps of a benchmark.
const MAX_STEPS: u64 = 1_000_000;
/// Largest number of anchors of an image, 500 times that of the paper's.
const MAX_ANCHORS: usize = 100_000_000;
/// Largest size in bytes of the images of a batch, far above what a network could process at once.
const MAX_BATCH_BYTES: usize = 64 << 30;
/// Bytes of a pixel of a batch: three channels in single precision.
const PIXEL_BYTES: usize = 12;

/// Checks that a batch of images of `height` by `width` pixels has a size that could be processed.
fn fits(key: &str, batch_size: usize, [height, width]: [usize; 2]) -> Result<(), SettingError> {
    let most = (MAX_BATCH_BYTES / (PIXEL_BYTES * height * width)).max(1);
    let expected = format!("at most {most} with images of {height}x{width} pixels, which are 64 GiB");
    check::that(batch_size <= most, key, &expected, &batch_size)
}

/// The section `[eval]` of a configuration: how logits and deltas become detections, and the batch size of evaluations.
/// Checkpoints store these values except `batch_size`, and `foveal predict` uses them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Score from 0 to 1 above which a pair of an anchor and a class is a candidate detection. Default: `0.05`.
    pub score_threshold: f32,
    /// IoU from 0 to 1 above which non-maximum suppression removes the lower-scoring of two boxes of one class.
    /// Default: `0.5`.
    pub nms: f32,
    /// Largest number of detections in an image, from 1 to 100000. Default: `100`.
    pub max_detections: usize,
    /// Largest number of candidates (pairs of an anchor and a class) that each pyramid level passes on to non-maximum
    /// suppression, from 1 to 1000000. Default: `1000`.
    pub pre_nms: usize,
    /// Number of images that are evaluated in one forward pass, from 1 to 4096. Default: `4`.
    pub batch_size: usize,
}

/// Default batch size of evaluations. It needs little memory, because no activations are stored for gradients.
const EVAL_BATCH: usize = 4;

impl Default for EvalConfig {
    fn default() -> Self {
        let post = PostprocessConfig::default();
        Self {
            score_threshold: post.score_threshold,
            nms: post.nms,
            max_detections: post.max_detections,
            pre_nms: post.pre_nms,
            batch_size: EVAL_BATCH,
        }
    }
}

impl EvalConfig {
    /// The settings of post-processing in the form that checkpoints store: everything except the batch size.
    pub fn post(&self) -> PostprocessConfig {
        PostprocessConfig {
            score_threshold: self.score_threshold,
            nms: self.nms,
            max_detections: self.max_detections,
            pre_nms: self.pre_nms,
        }
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("score_threshold", self.score_threshold)?;
        check::fraction("nms", self.nms)?;
        check::count("max_detections", self.max_detections, 1..=100_000)?;
        check::count("pre_nms", self.pre_nms, 1..=1_000_000)?;
        check::count("batch_size", self.batch_size, 1..=MAX_BATCH)
    }
}

/// The section `[bench]` of a configuration: the seeded random images and objects that `foveal bench` runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BenchConfig {
    /// Number of images in a step, from 1 to 4096. Default: `2`.
    pub batch_size: usize,
    /// Height of the images in pixels, a multiple of 32 up to 16384. Default: `512`.
    pub height: usize,
    /// Width of the images in pixels, a multiple of 32 up to 16384. Default: `512`.
    pub width: usize,
    /// Number of objects in each image, at most 10000. Default: `8`.
    pub boxes: usize,
    /// Number of classes, from 1 to 100000. Default: `80`.
    pub classes: usize,
    /// Number of timed steps, from 1 to 1000000. Default: `10`.
    pub steps: usize,
    /// Number of steps that run before the timed steps and are not timed, at most 1000000. Default: `2`.
    pub warmup: usize,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self { batch_size: 2, height: 512, width: 512, boxes: 8, classes: 80, steps: 10, warmup: 2 }
    }
}

impl BenchConfig {
    fn validate(&self) -> Result<(), SettingError> {
        check::count("batch_size", self.batch_size, 1..=MAX_BATCH)?;
        check::count("boxes", self.boxes, 0..=10_000)?;
        check::count("classes", self.classes, 1..=100_000)?;
        check::count("steps", self.steps, 1..=MAX_STEPS)?;
        check::count("warmup", self.warmup, 0..=MAX_STEPS)?;
        for (key, value) in [("height", self.height), ("width", self.width)] {
            let padded = (1..=MAX_SIDE as usize).contains(&value) && value.is_multiple_of(SIZE_DIVISOR);
            check::that(
                padded,
                key,
                &format!("a multiple of {SIZE_DIVISOR} from {SIZE_DIVISOR} to {MAX_SIDE}"),
                &value,
            )?;
        }
        fits("batch_size", self.batch_size, [self.height, self.width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_criterion::{ClassWeightRule, ClassWeights, PerClass};
    use foveal_data::{Affine, LargeScaleJitter, Mosaic, Transform};

    #[test]
    fn losses_are_one_number_a_list_or_a_rule() {
        let loss = |text: &str| toml::from_str::<RunConfig>(&format!("[loss]\n{text}")).map(|c| c.loss);
        assert_eq!(loss("alpha = 1").unwrap().alpha, PerClass::Same(1.0));
        assert_eq!(loss("gamma = [2, 0.5]").unwrap().gamma, PerClass::Each(vec![2.0, 0.5]));
        let rule = loss("class_weights = \"effective_number\"").unwrap().class_weights;
        assert_eq!(rule, ClassWeights::Rule(ClassWeightRule::EffectiveNumber));
        assert_eq!(loss("class_weights = [1, 2.5]").unwrap().class_weights, ClassWeights::Each(vec![1.0, 2.5]));
        for (text, hint) in [
            ("alpha = \"a\"", "a list with one number for each class"),
            ("class_weights = \"ohem\"", "inverse_frequency"),
        ] {
            let error = loss(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_valid_and_survive_toml() {
        let config = RunConfig::default();
        config.validate().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
        assert_eq!(toml::from_str::<RunConfig>("").unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<RunConfig>("[train]\nepoch = 3").unwrap_err().to_string();
        assert!(error.contains("epoch"), "{error}");
    }

    #[test]
    fn errors_of_transforms_name_their_position() {
        let affine = Affine { degrees: 200.0, ..Affine::default() };
        let mut config = RunConfig::default();
        config.data.augment.transforms = vec![Transform::Mosaic(Mosaic::default()), Transform::Affine(affine)];
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "data.augment.transforms[1].degrees: expected a number from 0 to 180, found 200.0");
        // The list survives TOML, and a canvas of fixed size counts in the limits of sizes.
        let canvas = LargeScaleJitter { size: [16_384, 16_384], ..LargeScaleJitter::default() };
        config.data.augment.transforms =
            vec![Transform::Mosaic(Mosaic::default()), Transform::LargeScaleJitter(canvas)];
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
        config.train.batch_size = 32;
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with("train.batch_size: ") && error.contains("16384x16384"), "{error}");
        let unknown = toml::from_str::<RunConfig>("data.augment.transforms = [{ kind = \"affine\", degree = 3 }]");
        assert!(unknown.unwrap_err().to_string().contains("unknown field `degree`"));
    }

    #[test]
    fn errors_name_key_value_and_expectation() {
        let wrong = |change: fn(&mut RunConfig)| {
            let mut config = RunConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let cases = [
            (wrong(|c| c.train.batch_size = 0), "train.batch_size: ", "at least 1", "0"),
            (wrong(|c| c.train.lr = f64::NAN), "train.lr: ", "a finite number above 0", "NaN"),
            (wrong(|c| c.train.momentum = 1.0), "train.momentum: ", "at least 0 and less than 1", "1.0"),
            (wrong(|c| c.train.backbone_lr = -0.5), "train.backbone_lr: ", "0 or more", "-0.5"),
            (wrong(|c| c.train.new_layers_lr = 10.0), "train.new_layers_lr: ", "model.weights", "10.0"),
            (wrong(|c| c.train.milestones = vec![8.0, 3.0]), "train.milestones: ", "rising order", "[8.0, 3.0]"),
            (wrong(|c| c.train.ema = 1.0), "train.ema: ", "at least 0 and less than 1", "1.0"),
            (wrong(|c| c.train.rewind_factor = 1.5), "train.rewind_factor: ", "from 0 to 1", "1.5"),
            (
                wrong(|c| (c.train.activation_checkpointing, c.model.norm) = (true, BackboneNorm::Batch)),
                "train.activation_checkpointing: ",
                "model.norm",
                "true",
            ),
            (
                wrong(|c| {
                    c.train.precision = foveal_detector::ComputePrecision::F16;
                    c.train.non_finite = NonFinitePolicy::Skip;
                }),
                "train.non_finite: ",
                "train.precision",
                "Skip",
            ),
            (wrong(|c| c.eval.nms = 1.5), "eval.nms: ", "from 0 to 1", "1.5"),
            (wrong(|c| c.loss.alpha = (-0.5).into()), "loss.alpha: ", "from 0 to 1", "-0.5"),
            (wrong(|c| c.loss.gamma = PerClass::Each(vec![2.0, -1.0])), "loss.gamma: ", "0 or more", "-1.0"),
            (wrong(|c| c.loss.ohem_ratio = 0.0), "loss.ohem_ratio: ", "above 0", "0.0"),
            (
                wrong(|c| c.loss.class_weights = ClassWeights::Each(vec![1.0, 0.0])),
                "loss.class_weights: ",
                "above 0",
                "0.0",
            ),
            (wrong(|c| c.data.repeat_threshold = 0.0), "data.repeat_threshold: ", "above 0", "0.0"),
            (wrong(|c| c.data.min_size = 0), "data.min_size: ", "at least 1 pixel", "0"),
            (wrong(|c| c.data.min_size = 2000), "data.max_size: ", "min_size, which is 2000", "1333"),
            (wrong(|c| c.data.augment.flip_vertical = 2.0), "data.augment.flip_vertical: ", "from 0 to 1", "2.0"),
            (
                wrong(|c| (c.data.source, c.data.shapes.classes) = (foveal_data::Source::Shapes, 9)),
                "data.shapes.classes: ",
                "1 to 8",
                "9",
            ),
            (wrong(|c| c.matcher.negative_iou = 0.9), "matcher.negative_iou: ", "positive_iou, which is 0.5", "0.9"),
            (wrong(|c| c.model.norm_eps = 0.0), "model.norm_eps: ", "frozen_batch", "0.0"),
            (
                wrong(|c| c.model.base_width = usize::MAX / 64 * 64),
                "model.base_width: ",
                "from 4 to 1024",
                "18446744073709551552",
            ),
            (
                wrong(|c| c.model.anchors.scales = 1 << 60),
                "model.anchors.scales: ",
                "at most 32",
                "1152921504606846976",
            ),
            (wrong(|c| c.model.head.convs = 1 << 60), "model.head.convs: ", "at most 64", "1152921504606846976"),
            (wrong(|c| c.model.head.prior = 5e-324), "model.head.prior: ", "at least 1e-300", "5e-324"),
            (wrong(|c| c.train.eps = 1e-50), "train.eps: ", "single precision", "1e-50"),
            (wrong(|c| c.train.betas[1] = 1.0 - 1e-9), "train.betas: ", "single precision", "0.999999999"),
            (wrong(|c| c.loss.gamma = 1e39.into()), "loss.gamma: ", "single precision", "1e39"),
            (wrong(|c| c.train.epochs = usize::MAX), "train.epochs: ", "at most 1000000", "18446744073709551615"),
            (wrong(|c| c.data.queue = usize::MAX), "data.queue: ", "at most", "18446744073709551615"),
            (
                wrong(|c| c.data.mean[1] = 116.28),
                "data.mean: ",
                "divide means of 0..255 by 255",
                "[0.485, 116.28, 0.406]",
            ),
            (wrong(|c| c.data.mean[0] = -0.1), "data.mean: ", "from 0 to 1", "[-0.1, 0.456, 0.406]"),
            (
                wrong(|c| c.data.std = [58.395, 57.12, 57.375]),
                "data.std: ",
                "of 0..255 by 255",
                "[58.395, 57.12, 57.375]",
            ),
            (wrong(|c| c.data.std[2] = 0.0), "data.std: ", "above 0", "[0.229, 0.224, 0.0]"),
            (
                wrong(|c| c.data.fixed_size = Some([64, u32::MAX])),
                "data.fixed_size: ",
                "1 to 16384 pixels",
                "[64, 4294967295]",
            ),
            (wrong(|c| c.bench.height = 100), "bench.height: ", "multiple of 32", "100"),
            (wrong(|c| c.name = "../up".into()), "name: ", "letters", "\"../up\""),
            (wrong(|c| c.model.freeze_stages = 9), "model.freeze_stages: ", "0 (nothing) to 5", "9"),
            (wrong(|c| c.model.head.prior = 1.0), "model.head.prior: ", "between 0 and 1", "1.0"),
            (wrong(|c| c.model.anchors.ratios[0] = 0.0), "model.anchors.ratios: ", "positive", "[0.0, 1.0, 2.0]"),
        ];
        for (message, key, expected, found) in cases {
            let whole = message.starts_with(key) && message.ends_with(&format!(", found {found}"));
            assert!(whole && message.contains(expected), "{message}");
        }
    }
}
