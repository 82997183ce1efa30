//! The contents that this process has verified, so that the images of a training run are verified in its first epoch
//! only.
//!
//! A content is known by its length and its CRC-32, which a processor computes some hundred times as fast as it reads
//! Huffman codes. A file that is damaged between two epochs has another checksum and is verified again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::structure::Flaw;

/// Largest number of contents that are remembered, in about 32 MB. Later ones are verified each time.
const LARGEST: usize = 1 << 20;

/// Length and checksum of the contents.
static VERIFIED: Mutex<Option<HashSet<(usize, u32)>>> = Mutex::new(None);

/// Verifies a content, unless the same content passed before.
///
/// # Errors
/// Those of `verify`.
pub(crate) fn once(bytes: &[u8], verify: impl FnOnce(&[u8]) -> Result<(), Flaw>) -> Result<(), Flaw> {
    let key = (bytes.len(), crc32fast::hash(bytes));
    let known = || VERIFIED.lock().unwrap_or_else(PoisonError::into_inner);
    if known().get_or_insert_default().contains(&key) {
        return Ok(());
    }
    verify(bytes)?;
    let mut known = known();
    let contents = known.get_or_insert_default();
    if contents.len() < LARGEST {
        contents.insert(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_contents_that_passed_are_passed_over() {
        let flaw = || Err(Flaw::Truncated("a part"));
        let content = b"a content that no other test verifies";
        assert!(once(content, |_| flaw()).is_err());
        assert!(once(content, |_| Ok(())).is_ok());
        assert!(once(content, |_| flaw()).is_ok(), "the content is verified again");
        let mut damaged = *content;
        damaged[7] ^= 1;
        assert!(once(&damaged, |_| flaw()).is_err());
        assert!(once(&content[..20], |_| flaw()).is_err());
    }
}
