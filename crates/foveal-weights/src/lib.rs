//! Reading of weight files (safetensors, PyTorch) and loading of weights into modules by torchvision's parameter names.
#![recursion_limit = "256"]

mod acting;
mod backbone;
mod bound;
mod convention;
mod error;
mod file;
mod find;
mod layout;
mod module;
mod pickle;
mod plain;
mod sealed;
mod tensors;
mod torch;

pub use backbone::{BackboneFile, LoadedBackbone, load_backbone};
pub use convention::WeightsConvention;
pub use error::WeightsError;
pub use file::{read_weight_file, read_weights, tensors_from_safetensors};
pub use find::{FoundBackbone, find_backbone};
pub use module::{LoadReport, Mismatch, ParamPath, load_tensors, named_tensors, tensor_shapes};
pub use sealed::{check_seal, seal, sealed_text};
pub use tensors::{HostTensor, OtherTensor, TensorMap, WeightFile};
