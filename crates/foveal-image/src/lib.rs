//! Image preprocessing, from the bytes of a file to the normalised and padded input of a detector. Training and
//! inference use the same functions.
//!
//! ```text
//! load_rgb -> RgbImage -> Preprocess::apply -> Prepared [3, height, width] -> pad_batch -> PaddedBatch [batch, 3,
//! height, width]
//! load_rgb -> RgbImage -> Preprocess::stage -> Staged -> ImageBatch::stack -> ImageBatch, whose pixels are bytes if
//! they are bytes when they are resized
//! ```

mod batch;
mod bilinear;
mod budget;
mod bytes;
mod decode;
mod error;
mod format;
mod frame;
mod limit;
mod preprocess;
mod structure;
mod verified;

pub use batch::{PaddedBatch, SIZE_DIVISOR, Staged, pad_batch, pad_staged, padded_length};
pub use budget::ByteBudget;
pub use bytes::{ByteBatch, ImageBatch};
pub use decode::{Decoded, FileSize, load_rgb, oriented_size};
pub use error::ImageError;
pub use format::Format;
pub use frame::ImageFrame;
pub use image::RgbImage;
pub use limit::{ImageLimit, MAX_IMAGE_BYTES};
pub use preprocess::{
    IMAGENET_MEAN, IMAGENET_STD, MAX_SIDE, Prepared, Preprocess, ResizeMode, resize_antialiased, resize_region,
};
