//! The size that images are resized to.

use super::network::Network;
use super::schedule::{Budget, enough_images};
use super::{Setting, multiple_of_32};
use crate::commands::init::facts::{ClassFacts, Facts};

/// Sides in pixels, after resizing, of the smaller objects of the class with the smallest ones (its 10th percentile).
/// The finest level of the pyramid has a location every 8 pixels, so that an object of 16 pixels contains four.
const WISHED_SIDE: f64 = 16.0;
/// The side that is aimed at where the time allows it.
const AMPLE_SIDE: f64 = 24.0;
/// The side that is put up with where the time is short.
const LEAST_SIDE: f64 = 12.0;
/// The side that is put up with where the network would see less than [`FEW`] of the images that are enough. On the set
/// of configs/smallobjects.toml, whose smaller objects have 7 px in images of 384 px, 1,500 images of 640 px (12 px)
/// reach an AP of .364 from random weights, and in the same time 3,000 images of 448 px (8 px) reach .522.
const VERY_LEAST_SIDE: f64 = 8.0;
const FEW: f64 = 0.25;
/// Side in pixels below which an object may contain no location of the finest level.
const STRIDE: f64 = 8.0;
/// Fewest objects of a class whose sizes count.
const LEAST_OBJECTS: usize = 5;
/// Largest factor by which images are enlarged. Beyond it, enlarging adds no information that interpolation has not.
const MOST_ENLARGED: f64 = 2.0;
/// Largest shorter sides in pixels on a CPU and on a GPU.
const MOST: [f64; 2] = [640.0, 1024.0];
/// Shorter sides in pixels on a CPU and on a GPU that large objects do not go below, unless the images are smaller.
const USUAL: [f64; 2] = [256.0, 512.0];
/// Largest ratio of the limit of the longer side to the shorter side.
const MOST_ASPECT: f32 = 2.0;
/// Step in pixels between the sizes that are compared.
const STEP: u32 = 32;

/// The chosen size of images, and what it follows from.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Shorter side in pixels.
    pub size: u32,
    /// Largest longer side in pixels.
    pub max_size: u32,
    /// The size without a limit on time.
    wished: u32,
    /// Name of the class with the smallest objects, and their side over the shorter side of the image.
    smallest: (String, f64),
}

impl Input {
    /// The side in pixels, after resizing, of the smaller objects of the class with the smallest ones.
    pub(super) fn smallest_side(&self) -> f64 {
        self.smallest.1 * f64::from(self.size)
    }
}

/// The class with the smallest objects: its name and the 10th percentile of their sides over the shorter side of the
/// image. Without a class of enough objects, it is the percentile of all objects.
fn smallest(facts: &Facts) -> (String, f64) {
    let enough = facts.data.classes.iter().filter(|class| class.objects >= LEAST_OBJECTS);
    match enough.min_by(|a, b| a.side_p10.total_cmp(&b.side_p10)) {
        Some(ClassFacts { name, side_p10, .. }) => (name.clone(), f64::from(*side_p10)),
        None => ("all".to_owned(), f64::from(facts.data.sides[1])),
    }
}

/// Chooses the size. With a limit on time, it is the largest one at which the network still sees enough images.
pub(super) fn choose(facts: &Facts, network: Network, epoch_images: usize) -> Input {
    let smallest = smallest(facts);
    let kind = usize::from(!facts.device.is_cpu);
    let original = f64::from(facts.data.image_sides[1]);
    let most = MOST[kind].min(f64::from(multiple_of_32(MOST_ENLARGED * original)));
    let usual = USUAL[kind].min(f64::from(multiple_of_32(original))).min(most);
    let for_side = |side: f64| (side / smallest.1.max(1e-6)).min(most);
    let wished = multiple_of_32(for_side(WISHED_SIDE).max(usual));
    let ample = multiple_of_32(for_side(AMPLE_SIDE).max(1.25 * f64::from(wished)).min(most)).max(wished);
    let least = multiple_of_32(for_side(LEAST_SIDE).max(usual / 2.0)).min(wished);
    let size = match Budget::of(facts) {
        None => wished,
        Some(budget) => {
            let enough = enough_images(facts, epoch_images) as f64;
            let largest = |from: u32, to: u32, images: f64| {
                (from..=to).rev().step_by(STEP as usize).find(|size| budget.images(network, *size) >= images)
            };
            let very_least = multiple_of_32(for_side(VERY_LEAST_SIDE).max(usual / 2.0)).min(least);
            largest(least, ample, enough).or_else(|| largest(very_least, least, FEW * enough)).unwrap_or(very_least)
        }
    };
    let aspect = facts.data.aspect[1].clamp(1.0, MOST_ASPECT);
    Input { size, max_size: (size as f32 * aspect).ceil() as u32, wished, smallest }
}

impl Input {
    pub(super) fn explain(&self, facts: &Facts, settings: &mut Vec<Setting>, warnings: &mut Vec<String>) {
        let Self { size, max_size, wished, smallest: (name, share) } = self;
        let name = foveal_base::printable(name);
        let original = share * f64::from(facts.data.image_sides[1]);
        let after = self.smallest_side();
        let mut reason = format!(
            "Shorter side of the images. The class {name} has the smallest objects: nine in ten have sides of at least \
             {original:.0} px in images whose shorter side is {:.0} px, and of at least {after:.0} px after resizing. \
             The network has a location every {STRIDE} px, and sides of about {WISHED_SIDE} px are aimed at.",
            facts.data.image_sides[1]
        );
        if facts.minutes.is_some() && size != wished {
            let direction = if size > wished { "The time allows more than" } else { "The time is too short for" };
            reason += &format!(" {direction} the {wished} px that would be chosen without a limit.");
        }
        settings.push(Setting::new("data.min_size", i64::from(*size), reason));
        let reason = format!(
            "Upper limit of the longer side. In nine of ten images, this side is at most {:.2} times the shorter one.",
            facts.data.aspect[1]
        );
        settings.push(Setting::new("data.max_size", i64::from(*max_size), reason));
        let reason = "Batches are made of images of like shape, so that little of them is padding. If all images have one \
                      shape, nothing changes.";
        settings.push(Setting::new("data.group_by_aspect", true, reason));
        if after < STRIDE {
            warnings.push(format!(
                "a tenth of the objects of the class {name} are smaller than {after:.1} px after resizing to {size} px, \
                 and may contain no location of the network, which has one every {STRIDE} px. Cut the images into tiles, \
                 or raise data.min_size if there is time for larger images"
            ));
        }
    }
}
