//! Division of a data set into a training and a validation set.

use crate::{Dataset, Stream};

/// Key that separates the random stream of the division from those of the samples.
const HOLDOUT: u64 = 17;
/// Fewest images with a class of which one is held out for validation.
const FEW: usize = 3;

/// A division of the images of a data set into those to train on and those to validate with. No image is in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdout {
    /// Indices of the training images, in ascending order.
    pub train: Vec<usize>,
    /// Indices of the validation images, in ascending order.
    pub val: Vec<usize>,
}

impl Holdout {
    /// Holds out about the fraction `share` (above 0 and below 1) of the images for validation. The result is a
    /// function of the data set, `share` and `seed`. No image is read.
    ///
    /// The images are stratified by class, rarest class first, as in Sechidis et al., "On the stratification of
    /// multi-label data" (ECML 2011): the validation set gets the fraction `share` of the images with each class,
    /// rounded, and at least one image where three or more images have the class; it gets at most half of them, or that
    /// rounded fraction if it is more. A class on one or two images stays in the training set. Images without objects
    /// are stratified like those of a class. The images of a group in `same`, as found by
    /// [`same_images`](crate::same_images), stay together.
    ///
    /// The rules for classes cannot all be kept in very small data sets; the validation set has at least one image
    /// nevertheless. Returns `None` if the data set has fewer than two different images.
    pub fn new(dataset: &Dataset, same: &[Vec<usize>], share: f64, seed: u64) -> Option<Self> {
        let classes = dataset.label_map().len();
        let of_image = |index: usize| dataset.record(index).objects.iter().map(|o| o.class as usize).collect();
        let images: Vec<Vec<usize>> = (0..dataset.len()).map(of_image).collect();
        divide(&images, classes, same, share, seed)
    }
}

/// Images that stay together, with their classes in ascending order. Without objects, the class is one of its own.
struct Group {
    members: Vec<usize>,
    classes: Vec<usize>,
    held_out: bool,
}

/// The number of groups with a class, and how many of them the validation set should have and may have.
#[derive(Clone, Copy, Default)]
struct Quota {
    groups: usize,
    wanted: usize,
    most: usize,
    held_out: usize,
}

/// Divides images, of which each is given by the classes of its objects.
fn divide(images: &[Vec<usize>], classes: usize, same: &[Vec<usize>], share: f64, seed: u64) -> Option<Holdout> {
    let mut groups = grouped(images, classes, same);
    if groups.len() < 2 {
        return None;
    }
    Stream::new(&[seed, HOLDOUT]).shuffle(&mut groups);
    let mut quotas = vec![Quota::default(); classes + 1];
    groups.iter().flat_map(|group| &group.classes).for_each(|class| quotas[*class].groups += 1);
    for quota in &mut quotas {
        if quota.groups >= FEW {
            quota.wanted = ((share * quota.groups as f64).round() as usize).clamp(1, quota.groups - 1);
            quota.most = quota.wanted.max(quota.groups / 2);
        }
    }

    let mut rarest_first: Vec<usize> = (0..quotas.len()).collect();
    rarest_first.sort_by_key(|class| quotas[*class].groups);
    for class in rarest_first {
        // Groups of which no class gets more than it should come first.
        for limit in [|quota: &Quota| quota.wanted, |quota: &Quota| quota.most] {
            for group in groups.iter_mut().filter(|group| !group.held_out && group.classes.contains(&class)) {
                if quotas[class].held_out >= quotas[class].wanted {
                    break;
                }
                hold_out(group, &mut quotas, limit);
            }
        }
    }
    let held_out = |groups: &[Group]| groups.iter().filter(|g| g.held_out).map(|g| g.members.len()).sum::<usize>();
    let wanted = ((share * images.len() as f64).round() as usize).max(1);
    let mut count = held_out(&groups);
    for group in groups.iter_mut().filter(|group| !group.held_out) {
        if count >= wanted {
            break;
        }
        if hold_out(group, &mut quotas, |quota| quota.most) {
            count += group.members.len();
        }
    }
    if count == 0 {
        // Every class is on one or two images only: the group whose rarest class is most frequent is held out.
        let rarest = |group: &Group| group.classes.iter().map(|class| quotas[*class].groups).min();
        let group = groups.iter_mut().max_by_key(|group| rarest(group))?;
        group.held_out = true;
    }
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for Group { members, held_out, .. } in groups {
        if held_out { val.extend(members) } else { train.extend(members) }
    }
    train.sort_unstable();
    val.sort_unstable();
    Some(Holdout { train, val })
}

/// Holds out a group if none of its classes has more than `limit` groups then. Returns whether it is held out.
fn hold_out(group: &mut Group, quotas: &mut [Quota], limit: impl Fn(&Quota) -> usize) -> bool {
    if group.classes.iter().any(|class| quotas[*class].held_out + 1 > limit(&quotas[*class])) {
        return false;
    }
    group.classes.iter().for_each(|class| quotas[*class].held_out += 1);
    group.held_out = true;
    true
}

/// The groups of the images, in the order of their first image.
fn grouped(images: &[Vec<usize>], classes: usize, same: &[Vec<usize>]) -> Vec<Group> {
    let mut first_of: Vec<usize> = (0..images.len()).collect();
    for group in same {
        group.iter().for_each(|index| first_of[*index] = group[0]);
    }
    let mut groups: Vec<Group> = Vec::with_capacity(images.len());
    let mut place = vec![usize::MAX; images.len()];
    for (index, first) in first_of.into_iter().enumerate() {
        if place[first] == usize::MAX {
            place[first] = groups.len();
            groups.push(Group { members: Vec::new(), classes: Vec::new(), held_out: false });
        }
        let group = &mut groups[place[first]];
        group.members.push(index);
        group.classes.extend(&images[index]);
    }
    for group in &mut groups {
        group.classes.sort_unstable();
        group.classes.dedup();
        if group.classes.is_empty() {
            group.classes.push(classes);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn with_class(part: &[usize], images: &[Vec<usize>], class: usize) -> usize {
        part.iter().filter(|index| images[**index].contains(&class)).count()
    }

    /// 100 images with class 0, of which 10 have class 1, 3 class 2 and 2 class 3, and 20 images without objects.
    fn long_tail() -> Vec<Vec<usize>> {
        let of = |i: usize| match i {
            0..10 => vec![0, 1, 1],
            10..13 => vec![0, 2],
            13..15 => vec![0, 3],
            15..100 => vec![0, 0],
            _ => Vec::new(),
        };
        (0..120).map(of).collect()
    }

    #[test]
    fn each_class_with_three_images_has_its_share_and_rarer_ones_stay_in_training() {
        let images = long_tail();
        for seed in 0..20 {
            let Holdout { train, val } = divide(&images, 4, &[], 0.2, seed).unwrap();
            assert_eq!((train.len(), val.len()), (96, 24));
            let held_out: Vec<usize> = (0..4).map(|class| with_class(&val, &images, class)).collect();
            assert_eq!(held_out, [20, 2, 1, 0], "seed {seed}");
            assert_eq!(val.iter().filter(|index| images[**index].is_empty()).count(), 4);
        }
        assert_eq!(divide(&images, 4, &[], 0.2, 1), divide(&images, 4, &[], 0.2, 1));
        assert_ne!(divide(&images, 4, &[], 0.2, 1), divide(&images, 4, &[], 0.2, 2));
    }

    #[test]
    fn same_images_stay_together() {
        let images = long_tail();
        let same: Vec<Vec<usize>> = (0..60).map(|i| vec![i, i + 60]).collect();
        let Holdout { val, .. } = divide(&images, 4, &same, 0.2, 3).unwrap();
        assert_eq!(val.iter().filter(|i| **i < 60).map(|i| i + 60).collect::<Vec<_>>(), {
            val.iter().copied().filter(|i| *i >= 60).collect::<Vec<_>>()
        });
        assert!(val.len() >= 22, "{}", val.len());
    }

    #[test]
    fn very_small_sets_are_divided_as_far_as_possible() {
        assert_eq!(divide(&[vec![0]], 1, &[], 0.2, 0), None);
        assert_eq!(divide(&[vec![0], vec![0]], 1, &[vec![0, 1]], 0.2, 0), None);
        let two = divide(&[vec![0], vec![0]], 1, &[], 0.2, 0).unwrap();
        assert_eq!((two.train.len(), two.val.len()), (1, 1));
        // The image with the class of its own is not the one that is held out.
        for seed in 0..10 {
            let Holdout { val, .. } = divide(&[vec![0], vec![0], vec![0, 1]], 2, &[], 0.2, seed).unwrap();
            assert!(val == [0] || val == [1], "{val:?}");
        }
    }

    proptest! {
        #[test]
        fn every_image_is_in_one_part(
            images in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 2..60), seed in 0u64..100,
        ) {
            let Holdout { train, val } = divide(&images, 5, &[], 0.25, seed).unwrap();
            let all: HashSet<usize> = train.iter().chain(&val).copied().collect();
            prop_assert_eq!((all.len(), train.len() + val.len()), (images.len(), images.len()));
            prop_assert!(!train.is_empty() && !val.is_empty());
            if images.len() >= 20 {
                for class in 0..5 {
                    let (kept, held_out) = (with_class(&train, &images, class), with_class(&val, &images, class));
                    prop_assert!(kept >= held_out || held_out == 0, "class {class}: {kept} {held_out}");
                }
            }
        }
    }
}
