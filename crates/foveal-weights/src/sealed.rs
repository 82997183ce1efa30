//! Safetensors files with a description and a checksum of everything in them: checkpoints and training states.
//!
//! The header's metadata has one entry, a JSON object whose last field is `checksum`: the SHA-256 of the object with an
//! empty checksum and of the names, types, shapes and bytes of all tensors. Files with a changed bit, a missing tensor
//! or an edited setting are recognised by it.

use std::borrow::Cow;
use std::collections::HashMap;

use foveal_base::excerpt;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::HostTensor;

/// Text after which the checksum follows in the JSON of a sealed file.
const FIELD: &str = "\"checksum\":\"";
/// Number of hexadecimal digits of a checksum.
const DIGITS: usize = 64;

/// Returns the bytes of a safetensors file with `tensors` and with the JSON of `meta` under `key`, sealed by a
/// checksum. Equal input gives equal bytes.
///
/// `meta` must be a struct whose last field is `checksum`, a string that is empty.
///
/// # Panics
/// If `meta` has no such field, or if two tensors have the same name.
pub fn seal<'a>(key: &str, meta: &impl Serialize, tensors: impl Iterator<Item = (String, &'a HostTensor)>) -> Vec<u8> {
    let text = serde_json::to_string(meta).expect("metadata is plain data");
    let open = text.strip_suffix("\"}").filter(|open| open.ends_with(FIELD)).expect("the last field is the checksum");
    let mut tensors: Vec<(String, Bytes<'a>)> = tensors.map(|(name, tensor)| (name, Bytes(tensor))).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hash = Hash::new(open);
    for (name, tensor) in &tensors {
        hash.add(name, tensor.dtype(), tensor.shape(), &tensor.data());
    }
    let sealed = format!("{open}{}\"}}", hash.hex());
    safetensors::serialize(tensors, Some(HashMap::from([(key.to_owned(), sealed)])))
        .expect("names are unique and sizes match")
}

/// Returns the JSON under `key` of the safetensors file `bytes`, without checking its checksum; `None` if the file has
/// no such entry.
///
/// # Errors
/// A description of the damage if the bytes do not begin with a complete safetensors header.
pub fn sealed_text(key: &str, bytes: &[u8]) -> Result<Option<String>, String> {
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("an incomplete or foreign file ({})", excerpt(e)))?;
    Ok(header.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned())
}

/// Checks the checksum of the file `bytes` that [`seal`] made, whose JSON under `key` is `text`.
///
/// # Errors
/// A description of the damage.
pub fn check_seal(key: &str, text: &str, bytes: &[u8]) -> Result<(), String> {
    let damaged = "content that does not match its checksum: the file is damaged or was edited";
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("an incomplete or foreign file ({})", excerpt(e)))?;
    // The checksum covers a single entry, so that no other may stand beside it.
    if header.metadata().as_ref().is_none_or(|entries| entries.len() != 1 || !entries.contains_key(key)) {
        return Err(damaged.to_owned());
    }
    let inner = text.strip_suffix("\"}").ok_or(damaged)?;
    let (open, checksum) = inner.split_at_checked(inner.len().saturating_sub(DIGITS)).ok_or(damaged)?;
    if !open.ends_with(FIELD) {
        return Err(damaged.to_owned());
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("a damaged safetensors file ({})", excerpt(e)))?;
    let mut views: Vec<_> = file.iter().collect();
    views.sort_unstable_by_key(|(name, _)| *name);
    let mut hash = Hash::new(open);
    for (name, view) in views {
        hash.add(name, view.dtype(), view.shape(), view.data());
    }
    if hash.hex() == checksum { Ok(()) } else { Err(damaged.to_owned()) }
}

/// A tensor in the form that safetensors stores.
struct Bytes<'a>(&'a HostTensor);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.0.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        size_of_val(self.0.values.as_slice())
    }
}

/// The checksum so far. Each part is preceded by its length, so that no two files give the same sequence of bytes.
struct Hash(Sha256);

impl Hash {
    fn new(text: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.part(text.as_bytes());
        hash
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.part(name.as_bytes());
        self.part(format!("{dtype:?}{shape:?}").as_bytes());
        self.part(bytes);
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn hex(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Meta {
        format: u32,
        checksum: String,
    }

    fn file() -> Vec<u8> {
        let (a, b) = (
            HostTensor { shape: vec![2, 1], values: vec![1.0, -2.5] },
            HostTensor { shape: vec![], values: vec![0.5] },
        );
        let meta = Meta { format: 2, checksum: String::new() };
        seal("key", &meta, [("b".to_owned(), &b), ("a".to_owned(), &a)].into_iter())
    }

    fn check(bytes: &[u8]) -> Result<(), String> {
        let text = sealed_text("key", bytes)?.ok_or("no entry")?;
        check_seal("key", &text, bytes)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = file();
        assert_eq!(check(&file), Ok(()));
        for bit in 0..8 * file.len() {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit} of {}", 8 * file.len());
        }
        for length in 0..file.len() {
            assert!(check(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }
}
