//! Decoding every image of a data set, to find damaged pixels before they stop a run.

use foveal_image::ByteBudget;
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
        let data = &self.dataset;
        let budget = ByteBudget::new(DECODED_BYTES);
        let decode = |index: usize| match &data.sources[index] {
            ImageSource::File { .. } => {
                let Record { width, height, .. } = data.record(index);
                let bytes = RGB_BYTES * u64::from(*width) * u64::from(*height);
                budget.with(bytes, || data.load(index).err())
            }
            ImageSource::Unknown | ImageSource::Shape { .. } => None,
        };
        // The results keep the order of the annotation file.
        let errors: Vec<Option<DataError>> = (0..data.len()).into_par_iter().map(decode).collect();
        let mut whole = Vec::with_capacity(errors.len());
        for (index, error) in errors.into_iter().enumerate() {
            match error {
                None => whole.push(index),
                Some(error) => {
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
    }
}
