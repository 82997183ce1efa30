//! Division of a data set into parts that have their shares of every class, without cutting groups of images.

mod assign;
mod groups;
mod improve;
mod parts;
mod problem;
mod report;
mod search;
#[cfg(test)]
mod tests;

use foveal_coco::WholeDataset;

use crate::{SetFile, SetsError};
use problem::Problem;

pub use groups::Grouping;
pub use parts::PartShare;
pub use report::{SplitClass, SplitPart, SplitReport};

/// How a data set is divided.
#[derive(Clone, Debug)]
pub struct SplitOptions {
    /// The parts, at least one. Their shares add up to 1.
    pub parts: Vec<PartShare>,
    /// Which images stay together.
    pub grouping: Grouping,
    /// Seed of all random choices.
    pub seed: u64,
}

/// The parts of a data set.
#[derive(Clone, Debug)]
pub struct Split {
    /// The parts in the order of the options. Each has all categories and all members of the file beside its lists; the
    /// records are in the order of the file.
    pub parts: Vec<WholeDataset>,
    /// The counts of the parts.
    pub report: SplitReport,
}

/// Divides the images of a data set, with their annotations, into parts. Each image is in one part, and the images of a
/// group are in the same part. Images with the same file name are one group, whatever the grouping is. The result is a
/// function of the data set and the options.
///
/// # The objective
/// The division is the best that was found, by these criteria in this order:
/// 1. the number of pairs of a class and a part without an object of it, of the classes that have as many groups as
///    there are parts, or more, is smallest; a part without images counts too;
/// 2. the largest deviation from the share that was asked for, beyond 0.02, is smallest, of all parts and all common
///    classes: those with 100 objects or more in 10 groups or more;
/// 3. the sum of the squared deviations from the share is smallest, over all parts, and over all classes, the images,
///    and the images without objects.
///
/// A deviation is the difference between the share of the objects of a class that are in a part and the share of the
/// part. Crowd regions do not count as objects.
///
/// # The method
/// If there are at most 65,536 divisions, all are compared. Otherwise the groups are dealt out rarest class first, as
/// in Sechidis et al., "On the stratification of multi-label data" (ECML 2011), with the counts of objects in place of
/// labels, and then moved and exchanged as long as that is better. Small data sets get several such attempts.
///
/// # Errors
/// - [`SetsError::NoGroups`] if the grouping gives no image a group
/// - [`SetsError::FewGroups`] if there are fewer groups than parts
pub fn split(set: SetFile, options: &SplitOptions) -> Result<Split, SetsError> {
    let SetFile { path, dataset, mut warnings } = set;
    let groups = groups::groups(&dataset, &options.grouping, &path)?;
    if groups.members.len() < options.parts.len() {
        let (parts, groups) = (options.parts.len(), groups.members.len());
        return Err(SetsError::FewGroups { path, parts, groups });
    }
    let shares = options.parts.iter().map(|part| part.share).collect();
    let problem = Problem::new(&dataset, &groups.members, shares);
    let part_of_group = search::search(&problem, options.seed);
    let mut part_of_image = vec![0; dataset.images.len()];
    for (members, part) in groups.members.iter().zip(&part_of_group) {
        members.iter().for_each(|image| part_of_image[*image] = *part);
    }
    warnings.extend(groups.warnings);
    let report = SplitReport::new(&dataset, &problem, &part_of_group, options, warnings);
    Ok(Split { parts: divided(dataset, &part_of_image, options.parts.len()), report })
}

/// Distributes the records of a data set over its parts.
fn divided(dataset: WholeDataset, part_of_image: &[usize], parts: usize) -> Vec<WholeDataset> {
    let WholeDataset { images, annotations, categories, others } = dataset;
    let empty = WholeDataset { categories, others, ..WholeDataset::default() };
    let mut divided = vec![empty; parts];
    let mut of_id = std::collections::HashMap::with_capacity(images.len());
    for (image, part) in images.into_iter().zip(part_of_image) {
        of_id.insert(image.record.id, *part);
        divided[*part].images.push(image);
    }
    for annotation in annotations {
        divided[of_id[&annotation.record.image_id]].annotations.push(annotation);
    }
    divided
}
