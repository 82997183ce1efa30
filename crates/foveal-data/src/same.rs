//! Images of a data set that are one image under several names or ids.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{DataError, Dataset};

/// Number of bytes in the middle of a file that are compared before whole files are read.
const SAMPLE: u64 = 4096;

/// Finds the images of a data set that are the same: their files are one file under several names (also through links),
/// or have the same content. Returns the indices of each group of two or more such images in ascending order, sorted by
/// their first index.
///
/// Only files of the same length and with the same bytes in their middle are read whole, so that this is fast where few
/// files are the same. Images of a data set that was opened from its annotations alone are the same if they have the
/// same file name.
///
/// # Errors
/// [`DataError::Io`] with the path of a file that cannot be read.
pub fn same_images(dataset: &Dataset) -> Result<Vec<Vec<usize>>, DataError> {
    let paths: Vec<Option<&Path>> = (0..dataset.len()).map(|index| dataset.path(index)).collect();
    if paths.iter().any(Option::is_some) {
        return same_files(&paths);
    }
    let names = dataset.records().iter().map(|record| Some(&record.file_name).filter(|name| !name.is_empty()));
    Ok(groups(names))
}

/// Finds the files that have the same content. Returns the indices of each group of two or more of them in ascending
/// order, sorted by their first index. `None` is in no group.
pub(crate) fn same_files(paths: &[Option<&Path>]) -> Result<Vec<Vec<usize>>, DataError> {
    let length = |path: &Path| std::fs::metadata(path).map(|data| data.len());
    let of_length = groups(keys(paths, length)?);
    let sampled = only(paths, &of_length);
    let of_sample = groups(keys(&sampled, |path| length(path).and_then(|length| Ok((length, sample(path, length)?))))?);
    let read = only(paths, &of_sample);
    Ok(groups(keys(&read, |path| Ok(Sha256::digest(std::fs::read(path)?).to_vec()))?))
}

/// The bytes in the middle of a file.
fn sample(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(length.saturating_sub(SAMPLE) / 2))?;
    let mut bytes = Vec::with_capacity(SAMPLE as usize);
    file.take(SAMPLE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is compared of each file. Files are read in parallel.
fn keys<K: Send>(
    paths: &[Option<&Path>],
    key: impl Fn(&Path) -> io::Result<K> + Sync,
) -> Result<Vec<Option<K>>, DataError> {
    let of = |path: &Path| key(path).map_err(|source| DataError::Io { path: path.to_owned(), source });
    paths.par_iter().map(|path| path.map(of).transpose()).collect()
}

/// The paths that are in a group; `None` in place of the others.
fn only<'a>(paths: &[Option<&'a Path>], groups: &[Vec<usize>]) -> Vec<Option<&'a Path>> {
    let mut kept = vec![None; paths.len()];
    groups.iter().flatten().for_each(|&index| kept[index] = paths[index]);
    kept
}

/// The indices of equal keys, where there are two or more. `None` equals nothing.
pub(crate) fn groups<K: Hash + Eq>(keys: impl IntoIterator<Item = Option<K>>) -> Vec<Vec<usize>> {
    let mut members: HashMap<K, Vec<usize>> = HashMap::new();
    for (index, key) in keys.into_iter().enumerate() {
        if let Some(key) = key {
            members.entry(key).or_default().push(index);
        }
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_two_or_more_members_and_are_sorted() {
        let keys = ["b", "a", "c", "a", "b", "a", "", ""].map(|key| Some(key).filter(|key| !key.is_empty()));
        assert_eq!(groups(keys), [vec![0, 4], vec![1, 3, 5]]);
        assert_eq!(groups([1, 2, 3].map(Some)), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn files_are_the_same_by_all_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut long = vec![7; 3 * SAMPLE as usize];
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut paths = vec![write("a", &long), write("b", &long), write("c", b"short")];
        // The same length and the same middle.
        long[0] = 8;
        paths.push(write("d", &long));
        paths.push(write("e", &long));
        let files: Vec<Option<&Path>> = paths.iter().map(|path| Some(path.as_path())).chain([None, None]).collect();
        assert_eq!(same_files(&files).unwrap(), [vec![0, 1], vec![3, 4]]);
        let missing = dir.path().join("missing");
        assert!(matches!(same_files(&[Some(&missing)]), Err(DataError::Io { path, .. }) if path == missing));
    }
}
