//! The generated set: geometric figures on textured backgrounds, of very unequal frequency, overlapping, small and
//! large. Every image is a function of (seed, split, index) alone.

mod background;
mod canvas;
mod config;
mod draw;
mod figure;
mod kind;
mod scene;
mod set;

pub use config::{ShapesConfig, Split};
pub use figure::Figure;
pub use kind::Kind;
pub use scene::Scene;
pub(crate) use set::ShapeImages;
pub use set::{open, write_shapes};
