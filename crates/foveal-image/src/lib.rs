//! Image preprocessing, from the bytes of a file to the normalised and padded input of a detector. Training and
//! inference use the same functions.
//!
//! ```text
//! load_rgb -> RgbImage -> Preprocess::apply -> Prepared [3, height, width] -> pad_batch -> PaddedBatch [batch, 3,
//! height, width]
//! ```

mod batch;
mod bilinear;
mod decode;
mod error;
mod frame;
mod preprocess;

pub use batch::{PaddedBatch, SIZE_DIVISOR, Staged, pad_batch, pad_staged, padded_length};
pub use decode::{Decoded, FileSize, decode, decode_rgb, file_size, load_rgb, load_stored, oriented_size};
pub use error::ImageError;
pub use frame::ImageFrame;
pub use image::RgbImage;
pub use preprocess::{IMAGENET_MEAN, IMAGENET_STD, LONGEST_SIDE, Prepared, Preprocess, ResizeMode, resize_antialiased};
