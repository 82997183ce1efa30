//! Decoding every image of a data set, to find damaged pixels before they stop a run.

use foveal_image::{ByteBudget, RgbImage};
use rayon::prelude::*;

use crate::dataset::{ImageSource, Opened, Record};
use crate::{DataError, Problem};

/// Number of bytes of pixels that are decoded at the same time. A larger image is decoded alone.
const DECODED_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of a decoded pixel.
const RGB_BYTES: u64 = 3;

impl Opened {
    /// Decodes every image file of the data set. Images that cannot be decoded become findings of the report, and the
    /// data set goes on without them. Generated images are not drawn.
    pub fn decode_images(&mut self) {
        self.decode_with(|_| ());
    }

    /// Decodes every image file of the data set as [`Opened::decode_images`] does, and calls `look` with the pixels of
    /// each. Returns the results for the images that are left, in their order; `None` for an image without a file.
    pub fn decode_with<T: Send>(&mut self, look: impl Fn(&RgbImage) -> T + Sync) -> Vec<Option<T>> {
        let data = &self.dataset;
        let budget = ByteBudget::new(DECODED_BYTES);
        let decode = |index: usize| match &data.sources[index] {
            ImageSource::File { .. } => {
                let Record { width, height, .. } = data.record(index);
                let bytes = RGB_BYTES * u64::from(*width) * u64::from(*height);
                budget.with(bytes, || data.load(index).map(|image| Some(look(&image))))
            }
            ImageSource::Unknown | ImageSource::Shape { .. } => Ok(None),
        };
        // The results keep the order of the annotation file.
        let looks: Vec<Result<Option<T>, DataError>> = (0..data.len()).into_par_iter().map(decode).collect();
        let (mut whole, mut left) = (Vec::with_capacity(looks.len()), Vec::with_capacity(looks.len()));
        for (index, look) in looks.into_iter().enumerate() {
            match look {
                Ok(look) => {
                    whole.push(index);
                    left.push(look);
                }
                Err(error) => {
                    let image_id = data.file_id(index);
                    self.report.skip(image_id, None, Problem::BrokenImage, error.to_string());
                }
            }
        }
        self.report.decoded = true;
        if whole.len() < data.len() {
            self.dataset = data.select(&whole);
            self.report.count_records(&self.dataset.records);
        }
        left
    }
}
