//! The layers of the network, with torchvision's parameter names, and the operations of its forward pass.
//!
//! The forward pass of a module is written once over the trait [`Graph`], which has five interpreters: [`Eager`]
//! computes Burn tensors, [`Simulated`] does so with the rounding of half precision, [`Traced`] runs one of them and
//! records statistics of every layer, [`Counter`] counts parameters, multiply-adds and memory, and the ONNX export of
//! `foveal-detector` emits the nodes of a graph.
#![recursion_limit = "256"]

mod canvas;
mod conv;
mod counter;
mod eager;
mod graph;
mod init;
mod norm;
mod scale;
mod scopes;
mod simulated;
mod stats;
mod traced;

pub use conv::Conv2d;
pub use counter::{Columns, CountedMap, CountedRows, Counter, LayerCount};
pub use eager::{Eager, TensorLevels};
pub use foveal_kernels::{Activation, ConvOptions, MapSize, instruction_set};
pub use graph::{Graph, Named, named};
pub use init::Init;
pub use norm::{NORM_EPS, NORM_GROUPS, Norm, NormKind, RUNNING_MOMENTUM};
pub use simulated::Simulated;
pub use stats::{LevelStats, ValueStats};
pub use traced::{LayerTrace, Operation, TensorStats, Traced, Turn};
