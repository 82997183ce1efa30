//! Layers of the network under torchvision's parameter names, and the operations that its forward pass is written over.
#![recursion_limit = "256"]

mod conv;
mod init;
mod norm;

pub use conv::Conv2d;
pub use foveal_kernels::{Activation, ConvOptions, MapSize};
pub use init::Init;
pub use norm::{NORM_EPS, NORM_GROUPS, Norm, NormKind, RUNNING_MOMENTUM};
