//! The generated data set: geometric figures on textured backgrounds. The classes have very different frequencies, and
//! the figures overlap and differ in size. Every image is a function of the seed, the split and the index of the image.

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
