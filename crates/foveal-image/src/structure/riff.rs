//! The chunks of a WebP file (WebP container specification): a RIFF container of chunks with lengths.

use std::io::{BufRead, Seek};

use super::{Flaw, bytes};

const MISSING: &str = "the end of the RIFF container";

/// Walks the chunks up to the end of the container. What follows it is of no concern.
///
/// Returns the number of bytes of the container and of the chunks that begin in it. A decoder must not read more: the
/// length in a chunk header that is cut off by the end of the container has not been checked.
pub(super) fn walk(reader: &mut (impl BufRead + Seek), length: u64) -> Result<u64, Flaw> {
    let start: [u8; 12] = bytes(reader, MISSING)?;
    // The size of the container counts the bytes after the first 8.
    let end = 8 + u64::from(u32::from_le_bytes([start[4], start[5], start[6], start[7]]));
    if end > length {
        return Err(Flaw::Truncated(MISSING));
    }
    let mut position = 12u64;
    let mut has_pixels = false;
    while position + 8 <= end {
        let [a, b, c, d, size @ ..]: [u8; 8] = bytes(reader, MISSING)?;
        let size = u64::from(u32::from_le_bytes(size));
        if position + 8 + size > length {
            return Err(Flaw::Truncated(MISSING));
        }
        has_pixels |= matches!(&[a, b, c, d], b"VP8 " | b"VP8L" | b"ANMF");
        // Chunks begin at even offsets.
        let padded = size.next_multiple_of(2);
        reader.seek_relative(padded.cast_signed())?;
        position += 8 + padded;
    }
    if has_pixels {
        // The padding of the last chunk may be missing.
        Ok(end.max(position).min(length))
    } else {
        Err(Flaw::Malformed("the WebP file has no VP8, VP8L or ANMF chunk, so it has no pixels".to_owned()))
    }
}
