//! A training set that is made of several sets: their configuration, their common classes, folders of background
//! images, and how they are joined.

mod backgrounds;
mod classes;
mod config;
mod ids;
mod join;
mod names;
mod parts;
mod sources;

pub(crate) use classes::{Categories, ClassMap, ignore_all_classes};
pub use config::{ClassesConfig, DroppedObjects, MoreSet};
pub use join::join_sets;
pub(crate) use names::Names;
pub(crate) use parts::Parts;
pub use parts::{Part, PartUse, part_uses};
pub use sources::TrainSet;
pub(crate) use sources::{Reading, require_sizes};
