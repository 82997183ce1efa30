//! Whether the entropy-coded data of a JPEG file are complete and valid (ITU-T T.81, annexes F and G).
//!
//! Decoders replace what is missing by grey and what is invalid by whatever they read, without an error. Here the
//! Huffman codes are read without computing pixels: every block must be there, every code must be valid, and no more
//! than a small part of the data may be left after the last block. Cameras pad their data, which is accepted.

mod bits;
mod block;
mod frame;
mod huffman;

use super::Flaw;
use super::jpeg::{
    END_OF_IMAGE, MISSING, PROGRESSIVE, RESTART_FIRST, RESTART_LAST, START_OF_SCAN, stands_alone, starts_frame,
};
use bits::Bits;
use block::{Defect, Pass};
use frame::{Frame, Scan};
use huffman::Table;

/// Largest number of scans of one image; the decoder refuses more.
const MAX_SCANS: usize = 100;
/// Sequential frames with Huffman codes: baseline and extended.
const SEQUENTIAL: [u8; 2] = [0xC0, 0xC1];
const DEFINE_HUFFMAN: u8 = 0xC4;
const DEFINE_RESTARTS: u8 = 0xDD;

/// Checks all scans of a JPEG file in memory. Frames that the decoder refuses anyway are accepted here: arithmetic
/// codes, lossless frames and frames whose height is not in their header.
///
/// # Errors
/// [`Flaw`] that says what is missing or invalid, and how many of the blocks are whole.
pub(crate) fn verify(bytes: &[u8]) -> Result<(), Flaw> {
    Walk { bytes, position: 0, frame: None, tables: Tables::default(), restarts: 0 }.run()
}

/// The Huffman tables defined so far.
#[derive(Default)]
struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

/// A walk over the segments of a file.
struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
    frame: Option<Frame>,
    tables: Tables,
    /// Number of groups of blocks between restart markers; 0 without restart markers.
    restarts: usize,
}

impl<'a> Walk<'a> {
    fn run(mut self) -> Result<(), Flaw> {
        let mut scans = 0;
        loop {
            let marker = self.next_marker()?;
            if marker == END_OF_IMAGE {
                return match self.frame.as_ref().and_then(Frame::without_scan) {
                    None => Ok(()),
                    Some(id) => Err(malformed(format!("the JPEG file has no data of colour component {id}"))),
                };
            }
            if stands_alone(marker) {
                continue;
            }
            let segment = self.segment()?;
            match marker {
                DEFINE_HUFFMAN => self.define_tables(segment)?,
                DEFINE_RESTARTS => self.restarts = usize::from(u16_at(segment, 0)?),
                START_OF_SCAN => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(malformed(format!("the JPEG file has more than {MAX_SCANS} scans")));
                    }
                    self.scan(segment)?;
                }
                marker if starts_frame(marker) => {
                    let known = marker == PROGRESSIVE || SEQUENTIAL.contains(&marker);
                    if !known || u16_at(segment, 1)? == 0 {
                        return Ok(());
                    }
                    if self.frame.is_some() {
                        return Err(malformed("the JPEG file has more than one frame header".to_owned()));
                    }
                    self.frame = Some(Frame::of(marker == PROGRESSIVE, segment)?);
                }
                _ => {}
            }
        }
    }

    /// The code of the next marker, past stray bytes, fill bytes and the rest of entropy-coded data.
    fn next_marker(&mut self) -> Result<u8, Flaw> {
        loop {
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            let start = rest.iter().position(|&byte| byte == 0xFF).ok_or(Flaw::Truncated(MISSING))?;
            let fill = rest[start..].iter().position(|&byte| byte != 0xFF).ok_or(Flaw::Truncated(MISSING))?;
            let code = rest[start + fill];
            self.position += start + fill + 1;
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// The content of the segment at this position, which begins with its length.
    fn segment(&mut self) -> Result<&'a [u8], Flaw> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let size = usize::from(u16_at(rest, 0).map_err(|_| Flaw::Truncated(MISSING))?);
        if size < 2 {
            return Err(malformed(format!("a segment at byte {} has a length of {size} bytes", self.position)));
        }
        self.position += size;
        rest.get(2..size).ok_or(Flaw::Truncated(MISSING))
    }

    fn define_tables(&mut self, mut segment: &[u8]) -> Result<(), Flaw> {
        while let Some((&[place], rest)) = segment.split_first_chunk() {
            let (table, rest) = Table::of(rest).ok_or_else(|| malformed("a Huffman table is damaged".to_owned()))?;
            let tables = if place >> 4 == 0 { &mut self.tables.dc } else { &mut self.tables.ac };
            let slot = tables.get_mut(usize::from(place & 15));
            *slot.ok_or_else(|| malformed("a Huffman table has a number above 3".to_owned()))? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    /// Checks the data of a scan, whose header is `segment`, and goes to the marker after them.
    fn scan(&mut self, segment: &[u8]) -> Result<(), Flaw> {
        let Some(frame) = &mut self.frame else {
            return Err(malformed("the JPEG file has image data before the frame header".to_owned()));
        };
        let scan = Scan::of(segment, frame)?;
        let mut bits = Bits::new(&self.bytes[self.position..]);
        let groups = scan.groups(frame);
        let mut pass = Pass::new(&scan, frame, &self.tables)?;
        for group in 0..groups {
            if self.restarts > 0 && group > 0 && group % self.restarts == 0 {
                let expected = ((group / self.restarts - 1) % 8) as u8;
                if !bits.restart(expected) {
                    return Err(malformed(format!(
                        "the image data lack the restart marker after {group} of {groups} blocks"
                    )));
                }
                pass.restart();
            }
            pass.group(&mut bits, group).map_err(|defect| match defect {
                Defect::Exhausted if bits.at_end_of_file() => Flaw::Truncated(MISSING),
                Defect::Exhausted => malformed(format!("the image data end after {group} of {groups} blocks")),
                Defect::Invalid => malformed(format!("the image data are damaged after {group} of {groups} blocks")),
            })?;
        }
        let data = &self.bytes[self.position..];
        let end = end_of_data(data, bits.used());
        self.position += end;
        if is_too_much(&data[bits.used().min(end)..end], end) {
            return Err(malformed(format!(
                "the image data go on after the last of {groups} blocks, so a part of them is damaged"
            )));
        }
        Ok(())
    }
}

/// The position of the first marker from `from` on that is not a restart marker, or the length of the data.
fn end_of_data(data: &[u8], from: usize) -> usize {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF | RESTART_FIRST..=RESTART_LAST);
    let rest = data.get(from..).unwrap_or_default();
    rest.windows(2).position(is_marker).map_or(data.len(), |at| from + at)
}

/// Whether the bytes after the last block of a scan of `length` bytes show that earlier ones are damaged: they are more
/// than a small part of it, and not all equal as padding is.
fn is_too_much(rest: &[u8], length: usize) -> bool {
    const FEW: usize = 64;
    const SMALL_PART: usize = 32;
    let padding = rest.iter().skip(1).all(|byte| Some(byte) == rest.get(1));
    rest.len() > FEW && rest.len() > length / SMALL_PART && !padding
}

fn malformed(text: String) -> Flaw {
    Flaw::Malformed(text)
}

fn u16_at(bytes: &[u8], index: usize) -> Result<u16, Flaw> {
    match bytes.get(index..index + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(malformed("a segment of the JPEG file is too short".to_owned())),
    }
}
