//! Errors of reading weight files.

use std::path::PathBuf;

/// Error of reading a weight file or of loading its weights into a network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the weight file.
        path: PathBuf,
        /// Error reported by the operating system.
        source: std::io::Error,
    },
    /// The file is neither a safetensors file nor a PyTorch file, is damaged, or contains more than weights.
    #[error("{}: expected a .safetensors file or a PyTorch .pth/.pt state dict, found {found}", path.display())]
    Format {
        /// Path of the weight file.
        path: PathBuf,
        /// What the file contains instead, as the end of a sentence: `an empty file`.
        found: String,
    },
    /// No tensor in the file has the name of a ResNet's parameter.
    #[error(
        "{}: expected the weights of a {network}, found no ResNet among the {} tensors ({}, …); tensors must have the \
         names of torchvision or timm (conv1.weight, layer1.0.conv1.weight) or of Detectron2 (stem.conv1.weight, \
         res2.0.conv1.weight)",
        path.display(), found.len(), found.iter().take(4).cloned().collect::<Vec<_>>().join(", ")
    )]
    NoMatch {
        /// Path of the weight file.
        path: PathBuf,
        /// Name of the expected backbone, such as `resnet50`.
        network: String,
        /// Names of all floating-point tensors in the file.
        found: Vec<String>,
    },
    /// The file contains a network other than the expected one, or the variant of the network cannot be determined.
    #[error("{}: expected the weights of a {network}, found {found}; {advice}", path.display())]
    Refused {
        /// Path of the weight file.
        path: PathBuf,
        /// Name of the expected backbone, such as `resnet50`.
        network: String,
        /// What the file contains instead, as part of a sentence.
        found: String,
        /// What the user can do, as an imperative: `set model.backbone = "resnet101"`.
        advice: String,
    },
    /// A tensor contains NaN or an infinite value.
    #[error(
        "{}: expected finite weights, found a non-finite value in tensor {name} at element {element}; the file is \
         damaged or its training diverged",
        path.display()
    )]
    NonFinite {
        /// Path of the weight file.
        path: PathBuf,
        /// Name of the tensor in the file.
        name: String,
        /// Row-major index of the first non-finite value in the tensor.
        element: usize,
    },
}
