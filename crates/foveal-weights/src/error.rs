//! Why a weight file could not be used.

use std::path::PathBuf;

/// Why a weight file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The content is neither a safetensors nor a PyTorch file, or is damaged.
    #[error("{}: expected a .safetensors file or a PyTorch .pth/.pt state dict, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// No tensor has a name that a ResNet's has.
    #[error(
        "{}: expected the weights of a {network}, found no ResNet among its {} tensors ({}); their names are to be \
         torchvision's or timm's (conv1.weight, layer1.0.conv1.weight) or Detectron2's (stem.conv1.weight, \
         res2.0.conv1.weight)",
        path.display(), found.len(), found.iter().take(4).cloned().collect::<Vec<_>>().join(", ")
    )]
    NoMatch {
        /// The file.
        path: PathBuf,
        /// The network it was meant for.
        network: String,
        /// Names of the tensors in the file.
        found: Vec<String>,
    },
    /// Another network than the wanted one, or one of which nothing tells whether it is.
    #[error("{}: expected the weights of a {network}, found {found}; {advice}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The network it was meant for.
        network: String,
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A tensor carries NaN or infinity.
    #[error("{}: tensor {name} carries a non-finite value at element {element}; the file is damaged or its training diverged", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Row-major index of the first such value.
        element: usize,
    },
}
