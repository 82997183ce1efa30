//! What the network is written over: layers under torchvision's parameter names, and the operations of a forward pass.
//!
//! A module's forward pass is a function over [`Graph`]. [`Eager`] runs it on Burn tensors; [`Counter`] counts parameters,
//! multiply-adds and memory; the ONNX export of `foveal-detector` emits a graph.
#![recursion_limit = "256"]

mod conv;
mod counter;
mod eager;
mod graph;
mod init;
mod norm;

pub use conv::Conv2d;
pub use counter::{CountedMap, CountedRows, Counter, LayerCount};
pub use eager::{Eager, TensorLevels};
pub use foveal_kernels::{Activation, ConvOptions, MapSize};
pub use graph::{Graph, Named, named};
pub use init::Init;
pub use norm::{NORM_EPS, NORM_GROUPS, Norm, NormKind, RUNNING_MOMENTUM};
