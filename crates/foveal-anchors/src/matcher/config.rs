//! The settings of the matcher (`[matcher]`).

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule that decides which anchors are trained to detect an object (`matcher.kind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatcherKind {
    /// Two fixed thresholds of the IoU (Lin et al., arXiv 1708.02002, section 4; low-quality matches as in
    /// torchvision's and Detectron2's `Matcher`).
    #[default]
    Iou,
    /// Adaptive training sample selection: the threshold of each object follows from the IoUs of the anchors around its
    /// centre (Zhang et al., arXiv 1912.02424, algorithm 1).
    Atss,
}

/// The matcher: the rule that matches anchors with objects, and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatcherConfig {
    /// Rule by which anchors become positive: `iou` (the default) by fixed thresholds of the IoU, `atss` by a threshold
    /// that follows from the IoUs of the anchors around the centre of each object (Zhang et al., arXiv 1912.02424).
    /// With `atss`, one anchor per location is enough: `model.anchors.scales = 1` and `model.anchors.ratios = [1]`.
    pub kind: MatcherKind,
    /// IoU from which an anchor is positive: it is trained to detect the object with the highest IoU (0 to 1, default
    /// 0.5). Not used by `kind = "atss"`.
    pub positive_iou: f32,
    /// IoU below which an anchor is background (0 to `positive_iou`, default 0.4). An anchor whose highest IoU lies
    /// between `negative_iou` and `positive_iou` is ignored. Not used by `kind = "atss"`.
    pub negative_iou: f32,
    /// Whether the best anchors of an object are positive even if their IoU is below `positive_iou` (default true).
    /// An anchor that has the highest IoU of all anchors with some object becomes positive. It is then matched with the
    /// object that it overlaps most, which can be another object. Not used by `kind = "atss"`.
    pub low_quality: bool,
    /// Number of anchors of each pyramid level, those with the centres nearest to the centre of an object, among which
    /// `kind = "atss"` chooses the positives of the object (at least 1, default 9, as in arXiv 1912.02424). It is the
    /// number of anchors, not of locations: with nine anchors per location, 9 are those of a single location. Not used
    /// by `kind = "iou"`.
    pub candidates: usize,
    /// Whether an anchor is ignored if it is not positive and at least half of its area lies in a crowd region (default
    /// true).
    pub ignore_crowds: bool,
}

impl Default for MatcherConfig {
    fn default() -> Self {
        Self {
            kind: MatcherKind::Iou,
            positive_iou: 0.5,
            negative_iou: 0.4,
            low_quality: true,
            candidates: 9,
            ignore_crowds: true,
        }
    }
}

impl MatcherConfig {
    /// Checks the IoU thresholds and the number of candidates, whether or not the rule uses them.
    ///
    /// # Errors
    /// [`SettingError`] if a threshold is not from 0 to 1, `negative_iou` is above `positive_iou`, or `candidates` is
    /// 0.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::fraction("positive_iou", self.positive_iou)?;
        check::that(
            (0.0..=self.positive_iou).contains(&self.negative_iou),
            "negative_iou",
            &format!("a number from 0 to positive_iou, which is {}", self.positive_iou),
            &self.negative_iou,
        )?;
        check::that(self.candidates > 0, "candidates", "at least 1 anchor of each pyramid level", &self.candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let config = MatcherConfig { negative_iou: 0.6, ..MatcherConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "negative_iou: expected a number from 0 to positive_iou, which is 0.5, found 0.6"
        );
        let config = MatcherConfig { positive_iou: 1.5, ..MatcherConfig::default() };
        assert_eq!(config.validate().unwrap_err().key, "positive_iou");
        let config = MatcherConfig { candidates: 0, ..MatcherConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "candidates: expected at least 1 anchor of each pyramid level, found 0"
        );
    }

    #[test]
    fn settings_of_earlier_versions_keep_their_rule() {
        let earlier = r#"{"positive_iou":0.5,"negative_iou":0.4,"low_quality":true,"ignore_crowds":true}"#;
        assert_eq!(serde_json::from_str::<MatcherConfig>(earlier).unwrap(), MatcherConfig::default());
        let atss: MatcherConfig = serde_json::from_str(r#"{"kind":"atss"}"#).unwrap();
        assert_eq!((atss.kind, atss.candidates), (MatcherKind::Atss, 9));
    }
}
