//! Whether the objects of a data set have a preferred orientation, which decides whether flipped images look like
//! images of the data set.
//!
//! Two measurements are made for each class. The first compares the pixels of the objects with their mirror images. The
//! box of each object is reduced to 8x8 cells of mean brightness, from which the mean is subtracted and which are
//! scaled to the length 1. The part of such a crop that changes its sign when the crop is mirrored averages to zero
//! over the objects if mirrored objects are as frequent as others. The fraction of its energy that does not average out
//! is 0 for objects of random orientation, and 1 if all objects are copies of one asymmetric picture, such as a letter.
//! The second measurement uses the boxes alone: objects without upright orientation are about as often tall as wide.

use std::collections::BTreeMap;

use foveal_boxes::BBox;
use foveal_image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use crate::Dataset;
use crate::color::luma;

/// Cells of a crop in each direction.
const CELLS: usize = 8;
/// Smallest side in pixels of an object that is measured: one pixel for each cell.
const LEAST_SIDE: f32 = CELLS as f32;
/// Smallest length of a crop, in grey levels of 0..255 over all cells. Flatter crops show no structure.
const LEAST_CONTRAST: f32 = 8.0;

/// A crop of an object: the brightness of its cells, row by row, with mean 0 and length 1.
type Crop = [f32; CELLS * CELLS];

/// The measured orientation of the objects of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassSymmetry {
    /// Number of objects that were measured.
    pub objects: usize,
    /// Fraction of the part of the crops that a flip of top and bottom changes which all objects have in common: about
    /// 0 if flipped objects are as frequent as others, 1 if all objects are the same asymmetric picture. It is not
    /// biased by the number of objects, and can be slightly negative.
    pub vertical: f64,
    /// Fraction of the part of the crops that a flip of left and right changes which all objects have in common, from
    /// about 0 to 1.
    pub horizontal: f64,
    /// Preference for tall or for wide boxes: the absolute mean of `ln(height / width)` without two standard errors of
    /// the mean, at least 0. About 0 if boxes are as often tall as wide; 0.2 if they are 1.22 times as tall as wide, or
    /// as wide as tall, in the mean.
    pub shape: f64,
}

/// The measured orientation of the objects of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Symmetry {
    /// Number of images that were read.
    pub images: usize,
    /// The measurements of each class in class order; `None` for a class without an object of at least 8x8 pixels that
    /// shows any structure on the images that were read.
    pub classes: Vec<Option<ClassSymmetry>>,
}

impl Symmetry {
    /// Measures the objects of at most `limit` evenly spaced images that have objects. Images that cannot be decoded
    /// are left out.
    pub fn measure(dataset: &Dataset, limit: usize) -> Self {
        let with_objects: Vec<usize> = (0..dataset.len()).filter(|i| !dataset.record(*i).objects.is_empty()).collect();
        let count = with_objects.len().min(limit);
        let chosen: Vec<usize> = (0..count).map(|i| with_objects[i * with_objects.len() / count]).collect();
        let of_image = |index: &usize| {
            let image = dataset.load(*index).ok()?;
            let objects = dataset.record(*index).objects.iter();
            let crops = objects
                .filter_map(|o| Some((o.class, Measured { crop: crop(&image, &o.bbox)?, shape: shape(&o.bbox) })));
            Some(crops.collect::<Vec<_>>())
        };
        let read: Vec<Vec<(u32, Measured)>> = chosen.par_iter().filter_map(of_image).collect();
        let images = read.len();
        let mut by_class: BTreeMap<u32, Vec<Measured>> = BTreeMap::new();
        read.into_iter().flatten().for_each(|(class, measured)| by_class.entry(class).or_default().push(measured));
        let classes = 0..dataset.label_map().len() as u32;
        Self { images, classes: classes.map(|class| by_class.get(&class).map(|all| ClassSymmetry::of(all))).collect() }
    }
}

/// What is measured of an object.
#[derive(Clone, Copy)]
struct Measured {
    crop: Crop,
    /// `ln(height / width)` of the box.
    shape: f32,
}

impl ClassSymmetry {
    /// The measurements of one or more objects.
    fn of(objects: &[Measured]) -> Self {
        let flipped = |mirror: fn(usize, usize) -> usize| {
            common_share(objects.iter().map(|object| {
                let crop = &object.crop;
                std::array::from_fn::<f32, { CELLS * CELLS }, _>(|i| {
                    0.5 * (crop[i] - crop[mirror(i / CELLS, i % CELLS)])
                })
            }))
        };
        Self {
            objects: objects.len(),
            vertical: flipped(|row, column| (CELLS - 1 - row) * CELLS + column),
            horizontal: flipped(|row, column| row * CELLS + CELLS - 1 - column),
            shape: preference(objects),
        }
    }
}

/// The absolute mean of the shapes without two standard errors, at least 0. 0 for a single object.
fn preference(objects: &[Measured]) -> f64 {
    let n = objects.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = objects.iter().map(|o| f64::from(o.shape)).sum::<f64>() / n;
    let variance = objects.iter().map(|o| (f64::from(o.shape) - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean.abs() - 2.0 * (variance / n).sqrt()).max(0.0)
}

/// The fraction of the energy of vectors that their mean has: the squared length of the mean over the mean squared
/// length, without the part `1 / n` that vectors without a common mean have. 0 for a single vector and for zeros.
fn common_share<const N: usize>(vectors: impl Iterator<Item = [f32; N]>) -> f64 {
    let (mut sum, mut energy, mut n) = ([0.0f64; N], 0.0f64, 0.0f64);
    for vector in vectors {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += f64::from(value);
            energy += f64::from(value) * f64::from(value);
        }
        n += 1.0;
    }
    if n < 2.0 || energy == 0.0 {
        return 0.0;
    }
    let of_mean = sum.iter().map(|v| v * v).sum::<f64>() / (n * n);
    let biased = of_mean / (energy / n);
    (n * biased - 1.0) / (n - 1.0)
}

fn shape(bbox: &BBox) -> f32 {
    (bbox.height() / bbox.width()).ln()
}

/// The crop of a box; `None` if the box is too small or shows no structure.
fn crop(image: &RgbImage, bbox: &BBox) -> Option<Crop> {
    if bbox.width() < LEAST_SIDE || bbox.height() < LEAST_SIDE {
        return None;
    }
    // The pixels of a cell with the part of each that lies in the cell. Whole pixels alone would move the cells by half
    // a pixel in one direction, which all objects would then have in common.
    let parts = |from: f32, length: f32, cell: usize, end: u32| {
        let at = |cell: usize| (from + length * cell as f32 / CELLS as f32).clamp(0.0, end as f32);
        let (start, end) = (at(cell), at(cell + 1));
        let pixels = start.floor() as u32..end.ceil() as u32;
        pixels.map(move |pixel| (pixel, (end.min((pixel + 1) as f32) - start.max(pixel as f32)).max(0.0)))
    };
    let mut cells: Crop = std::array::from_fn(|i| {
        let rows = parts(bbox.y1, bbox.height(), i / CELLS, image.height());
        let (mut sum, mut area) = (0.0, 0.0);
        for (y, height) in rows {
            for (x, width) in parts(bbox.x1, bbox.width(), i % CELLS, image.width()) {
                // Luma, because blue, which the mean of the channels weighs as much as green, is often displaced by
                // the lens.
                sum += height * width * luma(image.get_pixel(x, y).0.map(f32::from));
                area += height * width;
            }
        }
        if area > 0.0 { sum / area } else { 0.0 }
    });
    let mean = cells.iter().sum::<f32>() / cells.len() as f32;
    cells.iter_mut().for_each(|cell| *cell -= mean);
    let length = cells.iter().map(|cell| cell * cell).sum::<f32>().sqrt();
    if length < LEAST_CONTRAST {
        return None;
    }
    cells.iter_mut().for_each(|cell| *cell /= length);
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataConfig, Source, Stream};

    /// A crop of an image with a bright half, which is the lower one or, turned, another one.
    fn half(turns: usize, width: u32, height: u32) -> Measured {
        let image = RgbImage::from_fn(64, 64, |x, y| {
            let bright = [y >= 32, x >= 32, y < 32, x < 32][turns % 4];
            image::Rgb([if bright { 200 } else { 40 }; 3])
        });
        let (x, y) = ((64 - width) as f32 / 2.0, (64 - height) as f32 / 2.0);
        let bbox = BBox::new(x, y, x + width as f32, y + height as f32);
        Measured { crop: crop(&image, &bbox).unwrap(), shape: shape(&bbox) }
    }

    #[test]
    fn upright_objects_differ_from_their_flips_and_turned_ones_do_not() {
        let upright: Vec<Measured> = (0..40).map(|_| half(0, 20, 40)).collect();
        let found = ClassSymmetry::of(&upright);
        assert!(found.vertical > 0.99, "{found:?}");
        // Boxes twice as tall as wide.
        assert!((found.shape - 2f64.ln()).abs() < 1e-6, "{found:?}");
        // The picture is its own mirror image, so there is nothing that a horizontal flip changes.
        assert_eq!(found.horizontal, 0.0);
        let turned: Vec<Measured> =
            (0..40).map(|i| half(i, 20 + 20 * (i as u32 % 2), 40 - 20 * (i as u32 % 2))).collect();
        let found = ClassSymmetry::of(&turned);
        assert!(found.vertical.abs() < 0.05 && found.horizontal.abs() < 0.05, "{found:?}");
        assert_eq!((found.shape, ClassSymmetry::of(&turned[..1]).shape), (0.0, 0.0));
    }

    #[test]
    fn the_share_does_not_depend_on_the_number_of_vectors() {
        let mut random = Stream::new(&[5]);
        let mut mean = |n: usize| {
            let mut share = || common_share((0..n).map(|_| [random.range(-1.0, 1.0), random.range(-1.0, 1.0)]));
            (0..400).map(|_| share()).sum::<f64>() / 400.0
        };
        for n in [4, 16, 64] {
            let mean = mean(n);
            assert!(mean.abs() < 0.03, "{n}: {mean}");
        }
        assert_eq!(common_share([[1.0f32, 2.0]].into_iter()), 0.0);
    }

    /// Boxes whose sides are no multiples of the cells, around symmetric pictures.
    #[test]
    fn symmetric_objects_have_no_orientation() {
        let objects: Vec<Measured> = (0..60)
            .map(|i| {
                let (width, height) = (17 + i % 13, 15 + i % 11);
                let image = RgbImage::from_fn(40, 40, |x, y| {
                    let [u, v] = [(x, width), (y, height)].map(|(at, side)| (2 * at + 1) as f32 / side as f32 - 1.0);
                    image::Rgb([if u * u + v * v < 0.7 { 200 } else { 40 }; 3])
                });
                let bbox = BBox::new(0.0, 0.0, width as f32, height as f32);
                Measured { crop: crop(&image, &bbox).unwrap(), shape: shape(&bbox) }
            })
            .collect();
        let found = ClassSymmetry::of(&objects);
        assert!(found.vertical < 0.05 && found.horizontal < 0.05, "{found:?}");
    }

    /// The generated figures are turned by random angles.
    #[test]
    fn generated_figures_have_no_orientation() {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.count = 60;
        let dataset = config.open_train().unwrap().dataset;
        let found = Symmetry::measure(&dataset, 50);
        assert_eq!(found.images, 50);
        for class in found.classes.iter().flatten().filter(|class| class.objects >= 40) {
            assert!(class.vertical < 0.1 && class.horizontal < 0.1 && class.shape < 0.1, "{class:?}");
        }
        assert!(found.classes[0].is_some_and(|class| class.objects >= 40));
        assert_eq!(Symmetry::measure(&dataset, 0).images, 0);
    }

    #[test]
    fn flat_and_small_objects_are_not_measured() {
        let flat = RgbImage::from_pixel(32, 32, image::Rgb([90; 3]));
        assert!(crop(&flat, &BBox::new(0.0, 0.0, 32.0, 32.0)).is_none());
        let sloped = RgbImage::from_fn(32, 32, |_, y| image::Rgb([8 * y as u8; 3]));
        assert!(crop(&sloped, &BBox::new(0.0, 0.0, 32.0, 32.0)).is_some());
        assert!(crop(&sloped, &BBox::new(0.0, 0.0, 32.0, 7.0)).is_none());
        // A box at the edge of the image has at least one pixel in each cell.
        assert!(crop(&sloped, &BBox::new(23.5, 23.5, 32.0, 32.0)).is_some());
    }
}
