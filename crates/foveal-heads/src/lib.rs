//! The classification and box regression heads of RetinaNet, whose weights are shared by all pyramid levels
//! (arXiv 1708.02002, section 4).

mod config;
mod heads;

pub use config::{HeadConfig, HeadNorm};
pub use heads::{
    BOX_VALUES, ClassificationHead, Head, HeadOutput, LEVELS, RegressionHead, Tower, TowerLayer, prior_bias,
};
