//! The base of the workspace: types and functions that crates of every level use and that need no tensor library.
//!
//! - [`SettingError`] reports a configuration value that cannot be used. Every section of the configuration, from the
//!   anchors to the training loop, reports invalid values by it, so that the program can add where the value was set.
//! - [`check`] holds the range checks that several sections share.
//! - [`write_atomically`] writes every file of the project except the log, to which lines are appended, and the files
//!   of caches ([`replace_unsynced`]); [`sweep`] removes the temporary files of killed processes, and [`destination`]
//!   says what the path of an output leads to.
//! - [`Stream`] gives random numbers that depend on keys alone.
//! - [`printable`] makes names from files safe to show on a terminal.
//! - [`text`] reads text files of other systems (UTF-8, UTF-16), and [`names`] finds files under names of other
//!   systems.

pub mod check;
mod destination;
mod display;
mod file;
pub mod names;
mod random;
mod setting;
pub mod text;

pub use destination::{Destination, destination};
pub use display::{excerpt, first_chars, is_unprintable, printable};
pub use file::{
    WriteError, is_temporary, replace_unsynced, sweep, sync_folder, write_atomically, write_atomically_with,
};
pub use random::Stream;
pub use setting::SettingError;
