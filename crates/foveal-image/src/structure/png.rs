//! The chunks of a PNG file (PNG specification, section 5): length, type, data and checksum, up to the chunk IEND.

use std::io::{BufRead, Read, Seek};

use super::{Depth, Flaw, bytes};

const MISSING: &str = "the IEND chunk";
/// Bytes of a chunk besides its data: length, type and checksum.
const FRAME_BYTES: u64 = 12;

/// Walks the chunks up to IEND. What follows it is of no concern.
pub(super) fn walk(reader: &mut (impl BufRead + Seek), length: u64, depth: Depth) -> Result<(), Flaw> {
    bytes::<8>(reader, MISSING)?;
    let mut position = 8u64;
    let mut has_pixels = false;
    loop {
        let size = u32::from_be_bytes(bytes(reader, MISSING)?);
        let kind: [u8; 4] = bytes(reader, MISSING)?;
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return Err(Flaw::Malformed(format!("expected the name of a PNG chunk at byte {}", position + 4)));
        }
        if position + FRAME_BYTES + u64::from(size) > length {
            return Err(Flaw::Truncated(MISSING));
        }
        // Chunks whose name begins with a small letter are not needed for the pixels; decoders pass over damaged ones.
        if depth == Depth::Checksums && kind[0].is_ascii_uppercase() {
            compare_checksum(reader, kind, size, position)?;
        } else {
            reader.seek_relative(i64::from(size) + 4)?;
        }
        position += FRAME_BYTES + u64::from(size);
        match &kind {
            b"IDAT" => has_pixels = true,
            b"IEND" if has_pixels => return Ok(()),
            b"IEND" => return Err(Flaw::Malformed("the PNG file has no IDAT chunk, so it has no pixels".to_owned())),
            _ => {}
        }
    }
}

fn compare_checksum(reader: &mut impl BufRead, kind: [u8; 4], size: u32, position: u64) -> Result<(), Flaw> {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&kind);
    let mut data = reader.by_ref().take(u64::from(size));
    loop {
        let part = data.fill_buf()?;
        if part.is_empty() {
            break;
        }
        checksum.update(part);
        let used = part.len();
        data.consume(used);
    }
    if u32::from_be_bytes(bytes(reader, MISSING)?) == checksum.finalize() {
        return Ok(());
    }
    let name: String = kind.iter().map(|&letter| char::from(letter)).collect();
    Err(Flaw::Malformed(format!("the checksum of the {name} chunk at byte {position} does not match its data")))
}
