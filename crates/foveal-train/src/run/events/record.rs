//! The framing of records in TensorBoard's event files (`TFRecord`): the length of the data as 8 bytes, its checksum as
//! 4 bytes, the data, and the checksum of the data as 4 bytes, all numbers little-endian.

/// What TensorFlow adds to the rotated checksum (`kMaskDelta` in `tensorflow/core/lib/hash/crc32c.h`).
const MASK_DELTA: u32 = 0xa282_ead8;
/// Bytes of the length and its checksum.
const HEAD: usize = 12;
/// Bytes of the checksum of the data.
const TAIL: usize = 4;

/// The masked CRC32C of some bytes: rotated right by 15 bits, plus a constant.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// Data as a record.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(HEAD + data.len() + TAIL);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked(data).to_le_bytes());
    record
}

/// The data of the records at the beginning of `bytes`, up to the first one that is incomplete or damaged.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*checksum) != masked(length) {
            return None;
        }
        let (data, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*checksum) != masked(data) {
            return None;
        }
        bytes = rest;
        Some(data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_castagnoli_and_masked() {
        // RFC 3720, section B.4: 32 bytes of zeros have the CRC32C 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x8a91_36aau32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn records_come_back_up_to_the_first_damaged_one() {
        let mut bytes = [framed(b"first"), framed(b""), framed(b"third")].concat();
        assert_eq!(records(&bytes).collect::<Vec<_>>(), [&b"first"[..], b"", b"third"]);
        assert_eq!(records(&bytes[..bytes.len() - 1]).count(), 2);
        for damaged in [0, 9, HEAD + 1, HEAD + 5] {
            bytes[damaged] ^= 1;
            assert_eq!(records(&bytes).count(), 0, "{damaged}");
            bytes[damaged] ^= 1;
        }
        bytes.extend([0xff; HEAD]);
        assert_eq!(records(&bytes).count(), 3);
    }
}
