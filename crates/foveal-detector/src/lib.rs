//! RetinaNet (arXiv 1708.02002): the network, post-processing, checkpoints, import of torchvision weights and export.
//! This crate contains everything that inference needs.
#![recursion_limit = "256"]

mod channels;
mod checkpoint;
mod config;
mod count;
mod detector;
mod error;
mod export;
mod fine_tune;
mod import;
mod labels;
mod model;
pub mod onnx;
mod outputs;
mod postprocess;
mod precision;
mod predict;
mod size;
mod start_point;
mod topk;
mod torch_file;

pub use channels::ClassChannels;
pub use checkpoint::{Checkpoint, CheckpointMeta, FORMAT_VERSION};
pub use config::ModelConfig;
pub use count::{InputSize, NetworkCount};
pub use detector::{Detector, Prediction};
pub use error::{DetectorError, NonFiniteOutput};
pub use export::{Container, Counters, Precision, export_weights, torchvision_note, verify_weights};
pub use foveal_heads::BOX_VALUES;
pub use foveal_image::ImageFrame;
pub use foveal_weights::{FoundBackbone, LoadReport};
pub use import::{TorchvisionArch, import_torchvision, torchvision_post, torchvision_preprocess};
pub use labels::{COCO_CHANNELS, Labelled, Labels, label_channels};
pub use model::{BuiltModel, Dense, NetworkOutput, RetinaNet};
pub use postprocess::{Detection, PostprocessConfig, postprocess, postprocess_with};
pub use precision::{ComputePrecision, with_simulated_f16};
pub use predict::{Predicted, image_tensor, predict};
pub use start_point::StartPoint;
