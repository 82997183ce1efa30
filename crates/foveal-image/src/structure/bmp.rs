//! The headers of a Windows bitmap, from which the length of its pixels follows.

use std::io::{BufRead, Seek, SeekFrom};

use super::{Flaw, bytes};

const MISSING: &str = "the last row of pixels";
/// Length in bytes of the oldest version of the second header, which has 16-bit sizes.
const CORE_HEADER: u32 = 12;
/// Compression methods whose pixels are run lengths.
const RUN_LENGTHS: [u32; 2] = [1, 2];

/// Compares the length of the file with the length that the headers announce.
pub(super) fn walk(reader: &mut (impl BufRead + Seek), length: u64) -> Result<(), Flaw> {
    let file_header: [u8; 14] = bytes(reader, MISSING)?;
    let [_, _, _, _, _, _, _, _, _, _, start @ ..] = file_header;
    let header_size = u32::from_le_bytes(bytes(reader, MISSING)?);
    let pixel_bytes = if header_size == CORE_HEADER {
        let [w0, w1, h0, h1, _, _, b0, b1]: [u8; 8] = bytes(reader, MISSING)?;
        let [width, height, bits] = [[w0, w1], [h0, h1], [b0, b1]].map(|pair| u64::from(u16::from_le_bytes(pair)));
        row_bytes(width, bits) * height
    } else {
        let width = i32::from_le_bytes(bytes(reader, MISSING)?);
        // A negative height means that the rows are stored from the top down.
        let height = i32::from_le_bytes(bytes(reader, MISSING)?);
        let [_, _, b0, b1]: [u8; 4] = bytes(reader, MISSING)?;
        let compression = u32::from_le_bytes(bytes(reader, MISSING)?);
        let size = u32::from_le_bytes(bytes(reader, MISSING)?);
        if RUN_LENGTHS.contains(&compression) {
            u64::from(size)
        } else {
            let bits = u64::from(u16::from_le_bytes([b0, b1]));
            row_bytes(u64::from(width.unsigned_abs()), bits).saturating_mul(u64::from(height.unsigned_abs()))
        }
    };
    reader.seek(SeekFrom::Start(0))?;
    if u64::from(u32::from_le_bytes(start)).saturating_add(pixel_bytes) > length {
        return Err(Flaw::Truncated(MISSING));
    }
    Ok(())
}

/// Length in bytes of a row of pixels; rows begin at multiples of 4 bytes.
fn row_bytes(width: u64, bits: u64) -> u64 {
    (width * bits).div_ceil(32) * 4
}
