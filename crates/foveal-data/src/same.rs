//! Images of a data set that are one image under several names or ids.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{DataError, Dataset};

/// Finds the images of a data set that are the same: their files are one file under several names (also through links),
/// or have the same content. Returns the indices of each group of two or more such images in ascending order, sorted by
/// their first index.
///
/// Only files of the same length are read, so that this is fast where few files have the same length. Images of a data
/// set that was opened from its annotations alone are the same if they have the same file name.
///
/// # Errors
/// [`DataError::Io`] with the path of a file that cannot be read.
pub fn same_images(dataset: &Dataset) -> Result<Vec<Vec<usize>>, DataError> {
    /// What makes an image the same as another one.
    #[derive(Clone, PartialEq, Eq, Hash)]
    enum Key {
        Name(String),
        Index(usize),
        Content(Vec<u8>),
    }
    let paths: Vec<Option<PathBuf>> = (0..dataset.len()).map(|index| dataset.path(index).map(PathBuf::from)).collect();
    let lengths: Vec<Option<u64>> = paths
        .par_iter()
        .map(|path| {
            let Some(path) = path else { return Ok(None) };
            let io = |source| DataError::Io { path: path.clone(), source };
            Ok(Some(std::fs::metadata(path).map_err(io)?.len()))
        })
        .collect::<Result<_, DataError>>()?;
    let mut of_length: HashMap<u64, usize> = HashMap::new();
    lengths.iter().flatten().for_each(|length| *of_length.entry(*length).or_default() += 1);
    let keys: Vec<Key> = (0..dataset.len())
        .into_par_iter()
        .map(|index| match (&paths[index], lengths[index]) {
            (Some(path), Some(length)) if of_length[&length] > 1 => {
                let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.clone(), source })?;
                Ok(Key::Content(Sha256::digest(&bytes).to_vec()))
            }
            (Some(_), _) => Ok(Key::Index(index)),
            (None, _) if dataset.record(index).file_name.is_empty() => Ok(Key::Index(index)),
            (None, _) => Ok(Key::Name(dataset.record(index).file_name.clone())),
        })
        .collect::<Result<_, DataError>>()?;
    Ok(groups(&keys))
}

/// The indices of equal keys, where there are two or more.
fn groups<K: Hash + Eq>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut members: HashMap<&K, Vec<usize>> = HashMap::new();
    keys.iter().enumerate().for_each(|(index, key)| members.entry(key).or_default().push(index));
    let mut groups: Vec<Vec<usize>> = members.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_have_two_or_more_members_and_are_sorted() {
        assert_eq!(groups(&["b", "a", "c", "a", "b", "a"]), [vec![0, 4], vec![1, 3, 5]]);
        assert_eq!(groups(&[1, 2, 3]), Vec::<Vec<usize>>::new());
    }
}
