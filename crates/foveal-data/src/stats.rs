//! Statistics of a data set: objects by class, sizes, and objects per image.

use std::fmt;

use foveal_base::printable;
use serde::Serialize;

use crate::Dataset;
use crate::percentile::percentiles;

/// Bounds between small, medium and large objects in COCO's evaluation, in square pixels.
const SMALL: f32 = 32.0 * 32.0;
const LARGE: f32 = 96.0 * 96.0;
/// Percentiles that are reported.
pub(crate) const PERCENTILES: [usize; 5] = [0, 10, 50, 90, 100];

/// The size of an object by its area in square pixels: 0 small, 1 medium, 2 large, with COCO's bounds.
pub(crate) fn size_group(area: f32) -> usize {
    usize::from(area >= SMALL) + usize::from(area >= LARGE)
}

/// One class of a data set: its category, its objects and the images that contain it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassStats {
    /// Id of the category that the class stands for.
    pub id: i64,
    /// Name of the category that the class stands for.
    pub name: String,
    /// Number of objects of the class, without crowd regions.
    pub objects: usize,
    /// Number of images with at least one object of the class.
    pub images: usize,
    /// Square root of the area of the boxes of the class in pixels: minimum, 10th percentile, median, 90th percentile,
    /// maximum. Zeros for a class without objects.
    pub sides: [f32; 5],
}

/// Statistics of a data set. `Display` writes them as tables; `foveal data stats` prints them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Number of images of the data set.
    pub images: usize,
    /// Number of images without objects.
    pub empty_images: usize,
    /// Number of objects, without crowd regions.
    pub objects: usize,
    /// Number of crowd regions (`iscrowd`).
    pub crowds: usize,
    /// Category id, name, number of objects and number of images of each class, in class order.
    pub classes: Vec<ClassStats>,
    /// Numbers of small objects (area below 32x32 pixels), medium objects, and large objects (area of 96x96 pixels or
    /// more), with COCO's bounds.
    pub small_medium_large: [usize; 3],
    /// Square root of the area of the boxes in pixels: minimum, 10th percentile, median, 90th percentile, maximum.
    pub sides: [f32; 5],
    /// Height over width of the boxes: minimum, 10th percentile, median, 90th percentile, maximum.
    pub ratios: [f32; 5],
    /// Number of objects per image: minimum, 10th percentile, median, 90th percentile, maximum.
    pub objects_per_image: [f32; 5],
    /// Width of the images in pixels: minimum, 10th percentile, median, 90th percentile, maximum.
    pub widths: [f32; 5],
    /// Height of the images in pixels: minimum, 10th percentile, median, 90th percentile, maximum.
    pub heights: [f32; 5],
}

impl Stats {
    /// Computes the statistics of a data set. No image is read.
    pub fn of(dataset: &Dataset) -> Self {
        let records = dataset.records();
        let mut classes: Vec<ClassStats> = dataset
            .label_map()
            .categories()
            .iter()
            .zip(dataset.objects_by_class())
            .map(|(c, objects)| ClassStats { id: c.id, name: c.name.clone(), objects, images: 0, sides: [0.0; 5] })
            .collect();
        let mut class_sides = vec![Vec::new(); classes.len()];
        let mut sizes = [0; 3];
        for record in records {
            let mut present = vec![false; classes.len()];
            for object in &record.objects {
                present[object.class as usize] = true;
                class_sides[object.class as usize].push(object.bbox.area().sqrt());
                sizes[size_group(object.area)] += 1;
            }
            classes.iter_mut().zip(present).for_each(|(class, present)| class.images += usize::from(present));
        }
        classes.iter_mut().zip(class_sides).for_each(|(class, sides)| class.sides = percentiles(sides, PERCENTILES));
        let objects = || records.iter().flat_map(|r| &r.objects);
        Self {
            images: records.len(),
            empty_images: records.iter().filter(|r| r.objects.is_empty()).count(),
            objects: objects().count(),
            crowds: records.iter().map(|r| r.crowds.len()).sum(),
            classes,
            small_medium_large: sizes,
            sides: percentiles(objects().map(|o| o.bbox.area().sqrt()), PERCENTILES),
            ratios: percentiles(objects().map(|o| o.bbox.height() / o.bbox.width()), PERCENTILES),
            objects_per_image: percentiles(records.iter().map(|r| r.objects.len() as f32), PERCENTILES),
            widths: percentiles(records.iter().map(|r| r.width as f32), PERCENTILES),
            heights: percentiles(records.iter().map(|r| r.height as f32), PERCENTILES),
        }
    }

    /// Returns the number of objects of the most frequent class divided by that of the rarest class that has objects; 1
    /// if no class has objects.
    pub fn imbalance(&self) -> f64 {
        let counts = || self.classes.iter().map(|class| class.objects).filter(|objects| *objects > 0);
        match (counts().max(), counts().min()) {
            (Some(most), Some(least)) => most as f64 / least as f64,
            _ => 1.0,
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} images ({} without objects), {} objects, {} crowd regions",
            self.images, self.empty_images, self.objects, self.crowds
        )?;
        let [small, medium, large] = self.small_medium_large;
        writeln!(
            f,
            "objects by area: {small} small (below 32x32 px), {medium} medium, {large} large (96x96 px or more)\n"
        )?;
        writeln!(f, "{:<24}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "min", "10 %", "median", "90 %", "max")?;
        for (name, values) in [
            ("object side, px", self.sides),
            ("object height / width", self.ratios),
            ("objects per image", self.objects_per_image),
            ("image width, px", self.widths),
            ("image height, px", self.heights),
        ] {
            write!(f, "{name:<24}")?;
            for value in values {
                let digits = if name.contains('/') { 2 } else { usize::from(value.fract() != 0.0) };
                write!(f, "{value:>9.digits$}")?;
            }
            writeln!(f)?;
        }
        write!(f, "\n{:>6}  {:<24}{:>9}{:>9}{:>8}", "id", "class", "objects", "images", "share")?;
        for class in &self.classes {
            let share = 100.0 * class.objects as f64 / self.objects.max(1) as f64;
            let name = printable(&class.name);
            write!(f, "\n{:>6}  {name:<24}{:>9}{:>9}{share:>7.1}%", class.id, class.objects, class.images)?;
        }
        Ok(())
    }
}
