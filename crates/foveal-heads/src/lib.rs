//! The class and box heads of RetinaNet, shared over the pyramid's levels (arXiv 1708.02002, section 4).

mod config;
mod flatten;
mod heads;

pub use config::{HeadConfig, HeadNorm};
pub use flatten::flatten_maps;
pub use heads::{ClassificationHead, Head, HeadOutput, RegressionHead, Tower, TowerLayer, prior_bias};
