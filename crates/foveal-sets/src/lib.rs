//! Changes of whole data sets in COCO format: [`split()`] divides one into parts, [`merge()`] joins several,
//! [`subset()`] selects images and objects, [`remap()`] renames, joins and drops classes, and [`tile()`] cuts large
//! images to pieces.
//!
//! ```text
//! SetFile::open -> SetFile { path, dataset: WholeDataset } -> split | merge | subset | remap | tile -> WholeDataset
//! ```
//!
//! A data set keeps everything that its file contains, such as segmentations, licences and attributes, unless the
//! documentation of a change says otherwise. Random choices are functions of a seed: the same inputs give the same
//! outputs, byte by byte, for any number of threads.

mod counts;
mod error;
mod fresh;
mod merge;
mod names;
mod remap;
mod set_file;
mod split;
mod subset;
mod table;
mod tile;

pub use counts::{ChangeReport, Counted, InputCounts, SetCounts};
pub use error::SetsError;
pub use merge::{FileNames, MergeOptions, Merged, SameImage, merge};
pub use remap::{Remap, Remapped, remap};
pub use set_file::SetFile;
pub use split::{Grouping, PartShare, Split, SplitClass, SplitOptions, SplitPart, SplitReport, split};
pub use subset::{OtherSizes, Subset, SubsetOptions, subset};
pub use tile::{CutRule, TileFormat, TileOptions, Tiled, tile};
