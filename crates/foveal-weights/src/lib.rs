//! Weights by torchvision's parameter names: out of a module, into a module, and out of files.
#![recursion_limit = "256"]

mod acting;
mod bound;
mod convention;
mod error;
mod file;
mod layout;
mod module;
mod pickle;
mod plain;
mod resnet;
mod tensors;
mod torch;

pub use convention::WeightsConvention;
pub use error::WeightsError;
pub use file::{read_weight_file, read_weights, tensors_from_safetensors};
pub use module::{LoadReport, Mismatch, load_tensors, named_tensors};
pub use resnet::{LoadedResNet, ResNetFile, load_resnet};
pub use tensors::{HostTensor, OtherTensor, TensorMap, WeightFile};
