//! The images of bootstrap resamples.

use foveal_data::Stream;

/// Number of resamples for a comparison, unless an option sets another.
pub(crate) const COMPARED: u32 = 1000;
/// Key of the random stream that draws images.
const IMAGES: u64 = 31;

/// How often each of `images` images counts in the resample with an index. The same index gives the same images in
/// every command.
pub(crate) fn draw(images: usize) -> impl Fn(usize) -> Vec<u32> + Sync {
    move |sample| {
        let mut random = Stream::new(&[IMAGES, sample as u64]);
        let mut counts = vec![0; images];
        (0..images).for_each(|_| counts[random.below(images)] += 1);
        counts
    }
}
