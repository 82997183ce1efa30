//! The base of the workspace: what crates of every level need and no tensor library has a part in.
//!
//! - [`SettingError`] says which key of a configuration cannot be used. Every section of a configuration, from the
//!   anchors to the training loop, reports its mistakes by it, so that the program can say where a value came from.
//! - [`write_atomically`] is how every file of the project is written, except the log, which only grows.
//!
//! The crate is called `foveal-base` and not after either of the two, since both lie below all other crates for the same
//! reason: they depend on nothing but the standard library.

pub mod check;
mod file;
mod setting;

pub use file::{WriteError, write_atomically, write_atomically_with};
pub use setting::SettingError;
