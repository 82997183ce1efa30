//! The segments of a JPEG file (ITU-T T.81, annex B): markers with lengths, and entropy-coded data, which ends at the
//! next marker that is not a restart marker.

use std::io::{BufRead, Seek, SeekFrom};

use super::{Flaw, Layout, bytes};

/// The part that a truncated JPEG file lacks.
pub(super) const MISSING: &str = "the end-of-image marker";

/// Markers without a length: restart intervals, the start and the end of an image, and a temporary marker.
pub(super) fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | RESTART_FIRST..=RESTART_LAST | START_OF_IMAGE | END_OF_IMAGE)
}

pub(super) const RESTART_FIRST: u8 = 0xD0;
pub(super) const RESTART_LAST: u8 = 0xD7;
pub(super) const START_OF_IMAGE: u8 = 0xD8;
pub(super) const END_OF_IMAGE: u8 = 0xD9;
pub(super) const START_OF_SCAN: u8 = 0xDA;
/// The start of a progressive frame with Huffman codes.
pub(super) const PROGRESSIVE: u8 = 0xC2;

/// Whether a marker starts a frame. The three exceptions define Huffman codes, arithmetic codes and an extension.
pub(super) fn starts_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// Walks the segments up to the end of the image. What follows it is of no concern: previews, depth maps and videos are
/// appended there.
///
/// If the file ends with the end-of-image marker, the data after the first scan header are not read: inside
/// entropy-coded data, two such bytes cannot be anything else.
///
/// The result states header and working memory; the caller sets the bytes that a decoder may read.
pub(super) fn walk(reader: &mut (impl BufRead + Seek), length: u64) -> Result<Layout, Flaw> {
    let ends_with_marker = ends_with_marker(reader, length)?;
    let mut layout = Layout::default();
    let mut frame = None;
    let mut position = 0u64;
    loop {
        let marker = next_marker(reader, &mut position)?;
        if marker == END_OF_IMAGE {
            return if layout.header_bytes > 0 { Ok(layout) } else { Err(without_pixels()) };
        }
        if stands_alone(marker) {
            continue;
        }
        let size = u16::from_be_bytes(bytes(reader, MISSING)?);
        if size < 2 {
            let text = format!("the segment of marker FF{marker:02X} at byte {position} has a length of {size} bytes");
            return Err(Flaw::Malformed(text));
        }
        if position + u64::from(size) > length {
            return Err(Flaw::Truncated(MISSING));
        }
        position += u64::from(size);
        let data = i64::from(size) - 2;
        if starts_frame(marker) {
            let mut content = vec![0; data as usize];
            reader.read_exact(&mut content)?;
            frame = Some(Frame::of(marker, &content));
        } else if marker == START_OF_SCAN {
            let [components]: [u8; 1] = bytes(reader, MISSING)?;
            reader.seek_relative(data - 1)?;
            if layout.header_bytes == 0 {
                let working_bytes = frame.map_or(0, |frame: Frame| frame.working_bytes(components));
                layout = Layout { header_bytes: position, working_bytes, ..layout };
                if ends_with_marker {
                    return Ok(layout);
                }
            }
        } else {
            reader.seek_relative(data)?;
        }
    }
}

fn without_pixels() -> Flaw {
    Flaw::Malformed("the JPEG file ends before any image data".to_owned())
}

/// Whether the last two bytes of the file are the end-of-image marker. The reader is at the start of the file then.
fn ends_with_marker(reader: &mut (impl BufRead + Seek), length: u64) -> Result<bool, Flaw> {
    if length < 4 {
        return Err(Flaw::Truncated(MISSING));
    }
    reader.seek(SeekFrom::Start(length - 2))?;
    let last: [u8; 2] = bytes(reader, MISSING)?;
    reader.rewind()?;
    Ok(last == [0xFF, END_OF_IMAGE])
}

/// Reads up to the next marker and returns its code. Entropy-coded data, stray bytes and fill bytes before it are
/// passed over: in data, a byte FF is followed by 0, and restart markers belong to the data.
fn next_marker(reader: &mut impl BufRead, position: &mut u64) -> Result<u8, Flaw> {
    loop {
        // Up to and with the next byte FF.
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Err(Flaw::Truncated(MISSING));
        }
        let found = part.iter().position(|&byte| byte == 0xFF);
        let used = found.map_or(part.len(), |at| at + 1);
        reader.consume(used);
        *position += used as u64;
        if found.is_none() {
            continue;
        }
        let mut code = 0xFF;
        while code == 0xFF {
            [code] = bytes(reader, MISSING)?;
            *position += 1;
        }
        if code != 0 && !(RESTART_FIRST..=RESTART_LAST).contains(&code) {
            return Ok(code);
        }
    }
}

/// The frame header, as far as the memory of a decoder depends on it.
#[derive(Clone, Copy)]
struct Frame {
    progressive: bool,
    components: u8,
    samples: u64,
}

impl Frame {
    fn of(marker: u8, content: &[u8]) -> Self {
        let at = |index: usize| content.get(index).copied().unwrap_or(0);
        let height = u64::from(u16::from_be_bytes([at(1), at(2)]));
        let width = u64::from(u16::from_be_bytes([at(3), at(4)]));
        let factors: Vec<[u64; 2]> = content
            .get(6..)
            .unwrap_or_default()
            .chunks_exact(3)
            .map(|component| [u64::from(component[1] >> 4), u64::from(component[1] & 15)])
            .collect();
        let most = |axis: usize| factors.iter().map(|factor| factor[axis]).max().unwrap_or(1).max(1);
        let (most_across, most_down) = (most(0), most(1));
        let samples =
            factors.iter().map(|[x, y]| (width * x).div_ceil(most_across) * (height * y).div_ceil(most_down)).sum();
        Self { progressive: marker == PROGRESSIVE, components: at(5), samples }
    }

    /// Bytes of the coefficients that a decoder keeps until the last scan, if the first one is not the only one.
    fn working_bytes(self, in_first_scan: u8) -> u64 {
        const COEFFICIENT_BYTES: u64 = 2;
        if self.progressive || in_first_scan < self.components { COEFFICIENT_BYTES * self.samples } else { 0 }
    }
}
