//! A run's configuration: every key of a recipe, its default and what it may be.

mod check;
mod train;

pub use check::ConfigError;
pub use train::{OptimizerKind, ScheduleKind, TrainConfig};

use check::Checker;
use foveal_anchors::MatcherConfig;
use foveal_backbone::NormChoice;
use foveal_criterion::{ClassWeights, LossConfig};
use foveal_data::DataConfig;
use foveal_detector::{ModelConfig, PostConfig};
use serde::{Deserialize, Serialize};

/// All of a run: what a recipe holds, key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run: a part of its folder's name.
    pub name: String,
    /// Where images and boxes come from and what is done to them.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Which anchors answer for which objects.
    pub matcher: MatcherConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// How it is minimised.
    pub train: TrainConfig,
    /// How detections are made and measured.
    pub eval: EvalConfig,
    /// What `foveal bench` runs.
    pub bench: BenchConfig,
}

/// The name of runs whose recipe gives none.
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
    /// Checks what the types alone allow and no run could work with.
    ///
    /// # Errors
    /// The first such key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = Checker;
        let plain = !self.name.is_empty() && self.name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        check.that(
            plain && !self.name.starts_with('.'),
            "name",
            &self.name,
            "letters, digits, '-', '_' and '.' (it becomes part of a folder's name)",
        )?;
        self.matcher.validate().map_err(section)?;
        for alpha in self.loss.alpha.values() {
            check.fraction("loss.alpha", *alpha)?;
        }
        for gamma in self.loss.gamma.values() {
            check.not_negative("loss.gamma", *gamma)?;
        }
        check.positive("loss.ohem_ratio", self.loss.ohem_ratio)?;
        check.below_one("loss.class_weight_beta", self.loss.class_weight_beta)?;
        if let ClassWeights::Each(weights) = &self.loss.class_weights {
            for weight in weights {
                check.positive("loss.class_weights", *weight)?;
            }
        }
        check.not_negative("loss.beta", self.loss.beta)?;
        check.not_negative("loss.box_weight", self.loss.box_weight)?;
        self.train.validate(&check)?;
        let new_layers = self.train.new_layers_lr;
        check.that(
            new_layers == 1.0 || self.model.weights.is_some(),
            "train.new_layers_lr",
            &new_layers,
            "1 where model.weights names no file: all layers are new, and train.lr is theirs",
        )?;
        check.that(
            !self.train.activation_checkpointing || self.model.norm != NormChoice::Batch,
            "train.activation_checkpointing",
            &true,
            "false where model.norm is \"batch\": a second forward pass would count each batch twice in its statistics",
        )?;
        self.eval.validate(&check)?;
        self.bench.validate(&check)?;
        self.data.validate().map_err(section)?;
        self.model.validate().map_err(section)
    }
}

fn section(error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Section(error.to_string())
}

/// `[eval]`: how detections are made from the network's answers, and how many images at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Pairs of anchor and class at or below this score are dropped.
    pub score_threshold: f32,
    /// IoU above which the lesser of two boxes of one class is dropped.
    pub nms: f32,
    /// Most detections an image.
    pub max_detections: usize,
    /// Most pairs of anchor and class a pyramid level that go into NMS.
    pub pre_nms: usize,
    /// Images at once.
    pub batch_size: usize,
}

/// Images at once in an evaluation: no gradients are kept, so that this is no question of memory.
const EVAL_BATCH: usize = 4;

impl Default for EvalConfig {
    fn default() -> Self {
        let post = PostConfig::default();
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
    /// The part that shapes detections, as checkpoints carry it.
    pub fn post(&self) -> PostConfig {
        PostConfig {
            score_threshold: self.score_threshold,
            nms: self.nms,
            max_detections: self.max_detections,
            pre_nms: self.pre_nms,
        }
    }

    fn validate(&self, check: &Checker) -> Result<(), ConfigError> {
        check.fraction("eval.score_threshold", f64::from(self.score_threshold))?;
        check.fraction("eval.nms", f64::from(self.nms))?;
        check.at_least_one("eval.max_detections", self.max_detections)?;
        check.at_least_one("eval.pre_nms", self.pre_nms)?;
        check.at_least_one("eval.batch_size", self.batch_size)
    }
}

/// `[bench]`: the seeded random data that a benchmark runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BenchConfig {
    /// Images a step.
    pub batch_size: usize,
    /// Pixels, a multiple of 32.
    pub height: usize,
    /// Pixels, a multiple of 32.
    pub width: usize,
    /// Objects an image.
    pub boxes: usize,
    /// Classes.
    pub classes: usize,
    /// Timed steps.
    pub steps: usize,
    /// Steps before those.
    pub warmup: usize,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self { batch_size: 2, height: 512, width: 512, boxes: 8, classes: 80, steps: 10, warmup: 2 }
    }
}

impl BenchConfig {
    fn validate(&self, check: &Checker) -> Result<(), ConfigError> {
        check.at_least_one("bench.batch_size", self.batch_size)?;
        check.at_least_one("bench.classes", self.classes)?;
        check.at_least_one("bench.steps", self.steps)?;
        for (key, value) in [("bench.height", self.height), ("bench.width", self.width)] {
            let padded = value > 0 && value.is_multiple_of(foveal_image::SIZE_DIVISOR);
            check.that(padded, key, &value, "a positive multiple of 32")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_criterion::{ClassWeightRule, PerClass};

    #[test]
    fn losses_are_one_number_a_list_or_a_rule() {
        let loss = |text: &str| toml::from_str::<RunConfig>(&format!("[loss]\n{text}")).map(|c| c.loss);
        assert_eq!(loss("alpha = 1").unwrap().alpha, PerClass::Same(1.0));
        assert_eq!(loss("gamma = [2, 0.5]").unwrap().gamma, PerClass::Each(vec![2.0, 0.5]));
        let rule = loss("class_weights = \"effective_number\"").unwrap().class_weights;
        assert_eq!(rule, ClassWeights::Rule(ClassWeightRule::EffectiveNumber));
        assert_eq!(loss("class_weights = [1, 2.5]").unwrap().class_weights, ClassWeights::Each(vec![1.0, 2.5]));
        for (text, hint) in
            [("alpha = \"a\"", "a list with one for each class"), ("class_weights = \"ohem\"", "inverse_frequency")]
        {
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
    fn errors_name_key_value_and_expectation() {
        let wrong = |change: fn(&mut RunConfig)| {
            let mut config = RunConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let cases = [
            (wrong(|c| c.train.batch_size = 0), "train.batch_size", "0"),
            (wrong(|c| c.train.lr = f64::NAN), "train.lr", "NaN"),
            (wrong(|c| c.train.momentum = 1.0), "train.momentum", "1"),
            (wrong(|c| c.train.backbone_lr = -0.5), "train.backbone_lr", "-0.5"),
            (wrong(|c| c.train.new_layers_lr = 10.0), "train.new_layers_lr", "10"),
            (wrong(|c| c.train.milestones = vec![8.0, 3.0]), "train.milestones", "[8.0, 3.0]"),
            (wrong(|c| c.train.ema = 1.0), "train.ema", "1"),
            (
                wrong(|c| (c.train.activation_checkpointing, c.model.norm) = (true, NormChoice::Batch)),
                "train.activation_checkpointing",
                "true",
            ),
            (wrong(|c| c.eval.nms = 1.5), "eval.nms", "1.5"),
            (wrong(|c| c.loss.alpha = (-0.5).into()), "loss.alpha", "-0.5"),
            (wrong(|c| c.loss.gamma = PerClass::Each(vec![2.0, -1.0])), "loss.gamma", "-1"),
            (wrong(|c| c.loss.ohem_ratio = 0.0), "loss.ohem_ratio", "0"),
            (wrong(|c| c.loss.class_weights = ClassWeights::Each(vec![1.0, 0.0])), "loss.class_weights", "0"),
            (wrong(|c| c.data.repeat_threshold = 0.0), "data.repeat_threshold", "0"),
            (wrong(|c| c.matcher.negative_iou = 0.9), "negative_iou", "0.9"),
            (wrong(|c| c.data.augment.flip_vertical = 2.0), "data.augment.flip_vertical", "2"),
            (wrong(|c| c.bench.height = 100), "bench.height", "100"),
            (wrong(|c| c.name = "../up".into()), "name", "../up"),
            (wrong(|c| c.model.freeze_stages = 9), "freeze_stages", "9"),
        ];
        for (message, key, value) in cases {
            assert!(message.contains(key) && message.contains(value), "{message}");
        }
    }
}
