//! What makes one evaluation of a run better than another (`train.best_by`).

use std::fmt;
use std::str::FromStr;

use foveal_base::SettingError;
use foveal_coco::CategoryInfo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Text before the name of a class in the setting.
const CLASS: &str = "AP:";
/// The values that are possible, as errors describe them.
const POSSIBLE: &str = "\"AP\", \"AP50\", \"AR100\", \"loss\" or \"AP:\" with the name of a class, such as \"AP:car\"";

/// The value by which the evaluations of a run are compared (`train.best_by`). It is a text in configurations: `AP`,
/// `AP50`, `AR100`, `loss`, or `AP:` with the name of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum BestBy {
    /// COCO's AP (IoU 0.50 to 0.95) over all classes.
    #[default]
    Ap,
    /// COCO's AP at an IoU of 0.50 over all classes.
    Ap50,
    /// COCO's AR with at most 100 detections per image over all classes.
    Ar100,
    /// The AP (IoU 0.50 to 0.95) of the class with this name.
    ClassAp(String),
    /// The total loss on the validation set; lower is better.
    Loss,
}

impl BestBy {
    /// The value of an evaluation with the total loss `loss`, whose `metrics` are those of its line in `log.jsonl`.
    /// Higher is better: a loss has its sign changed. `None` if the value is undefined, which COCO writes as -1, or not
    /// finite.
    pub(crate) fn value(&self, metrics: &Value, loss: Option<f64>) -> Option<f64> {
        let metric = |value: &Value| value.as_f64().filter(|value| (0.0..=1.0).contains(value));
        match self {
            Self::Ap => metric(&metrics["AP"]),
            Self::Ap50 => metric(&metrics["AP50"]),
            Self::Ar100 => metric(&metrics["AR100"]),
            Self::ClassAp(name) => {
                let classes = metrics["per_category"].as_object()?;
                metric(&classes.values().find(|class| class["name"] == name.as_str())?["AP"])
            }
            Self::Loss => loss.filter(|loss| loss.is_finite()).map(|loss| -loss),
        }
    }

    /// A value by which evaluations are compared, as users know it: a loss is compared by its negative.
    pub fn shown(&self, value: f64) -> f64 {
        if *self == Self::Loss { -value } else { value }
    }

    /// Checks that the class that is named is one of `categories`.
    ///
    /// # Errors
    /// An error of `train.best_by` with the names of the first categories.
    pub(crate) fn check_class(&self, categories: &[CategoryInfo]) -> Result<(), SettingError> {
        const LISTED: usize = 8;
        let Self::ClassAp(name) = self else { return Ok(()) };
        if categories.iter().any(|category| category.name == *name) {
            return Ok(());
        }
        let names: Vec<&str> = categories.iter().take(LISTED).map(|category| category.name.as_str()).collect();
        let more = if categories.len() > LISTED { ", …" } else { "" };
        let expected = format!("{CLASS} with the name of a category of the training set ({}{more})", names.join(", "));
        Err(SettingError::new("train.best_by", expected, &self.to_string()))
    }
}

impl fmt::Display for BestBy {
    /// The text of the setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ap => f.write_str("AP"),
            Self::Ap50 => f.write_str("AP50"),
            Self::Ar100 => f.write_str("AR100"),
            Self::ClassAp(name) => write!(f, "{CLASS}{name}"),
            Self::Loss => f.write_str("loss"),
        }
    }
}

impl FromStr for BestBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix(CLASS)) {
            ("AP", _) => Ok(Self::Ap),
            ("AP50", _) => Ok(Self::Ap50),
            ("AR100", _) => Ok(Self::Ar100),
            ("loss", _) => Ok(Self::Loss),
            (_, Some(name)) if !name.is_empty() => Ok(Self::ClassAp(name.to_owned())),
            _ => Err(format!("expected {POSSIBLE}, found {text:?}")),
        }
    }
}

impl TryFrom<String> for BestBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BestBy> for String {
    fn from(by: BestBy) -> Self {
        by.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_is_read_from_its_text_and_from_an_evaluation() {
        let metrics = json!({
            "AP": 0.25, "AP50": 0.5, "AR100": 0.75,
            "per_category": {"3": {"name": "cat", "AP": 0.125}, "7": {"name": "AP", "AP": -1.0}},
        });
        let of = |text: &str| {
            let by: BestBy = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(serde_json::to_value(&by).unwrap(), json!(text));
            by.value(&metrics, Some(1.5)).map(|value| by.shown(value))
        };
        assert_eq!(["AP", "AP50", "AR100", "AP:cat"].map(of), [Some(0.25), Some(0.5), Some(0.75), Some(0.125)]);
        // A class without objects has no AP, and a class that is not there has none either.
        assert_eq!([of("AP:AP"), of("AP:dog")], [None, None]);
        assert_eq!(of("loss"), Some(1.5));
        assert_eq!(BestBy::Loss.value(&metrics, Some(1.5)), Some(-1.5));
        assert_eq!(BestBy::Loss.value(&metrics, Some(f64::NAN)), None);
        for text in ["ap", "AP:", "", "mAP"] {
            let error = text.parse::<BestBy>().unwrap_err();
            assert!(error.contains("AP:car") && error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn a_class_that_is_not_in_the_data_is_named_with_those_that_are() {
        let categories = [CategoryInfo { id: 1, name: "cat".to_owned() }];
        assert!(BestBy::ClassAp("cat".to_owned()).check_class(&categories).is_ok());
        assert!(BestBy::Ap.check_class(&[]).is_ok());
        let text = BestBy::ClassAp("dog".to_owned()).check_class(&categories).unwrap_err().to_string();
        assert!(text.starts_with("train.best_by: ") && text.contains("(cat)") && text.contains("AP:dog"), "{text}");
    }
}
