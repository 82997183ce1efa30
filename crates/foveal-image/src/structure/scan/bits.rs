//! The bits of entropy-coded data: bytes without the stuffed zeros, up to the next marker (ITU-T T.81, section
//! B.1.1.5).

use super::block::Defect;

/// A reader of bits, highest bit first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The bits that were read from the bytes and not used: the highest `count` bits.
    held: u64,
    count: u32,
    /// Whether `position` is at a marker or at the end of the bytes.
    ended: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, held: 0, count: 0, ended: false }
    }

    /// Number of bytes of the data that were used. Stuffed zeros among the last eight bytes may be missing.
    pub(super) fn used(&self) -> usize {
        self.position - (self.count / 8) as usize
    }

    /// Whether the data ended with the file and not at a marker.
    pub(super) fn at_end_of_file(&self) -> bool {
        self.position >= self.bytes.len()
    }

    /// Whether fewer bits than the longest code are left.
    pub(super) fn exhausted(&self) -> bool {
        self.ended && self.count < 16
    }

    /// The next 16 bits; beyond the end they are 0.
    #[inline]
    pub(super) fn peek(&mut self) -> u32 {
        if self.count < 32 {
            self.fill();
        }
        (self.held >> 48) as u32
    }

    /// Passes over `length` bits, at most 31.
    #[inline]
    pub(super) fn skip(&mut self, length: u32) -> Result<(), Defect> {
        if self.count < length {
            self.fill();
            if self.count < length {
                return Err(Defect::Exhausted);
            }
        }
        self.held <<= length;
        self.count -= length;
        Ok(())
    }

    /// Reads `length` bits, at most 16, as a number.
    pub(super) fn read(&mut self, length: u32) -> Result<u32, Defect> {
        let next = self.peek();
        self.skip(length)?;
        Ok(if length == 0 { 0 } else { next >> (16 - length) })
    }

    /// Drops the rest of a restart interval and passes over its restart marker. `false` if the next marker is not the
    /// restart marker with the number `expected`, from 0 to 7.
    pub(super) fn restart(&mut self, expected: u8) -> bool {
        (self.held, self.count) = (0, 0);
        while !self.ended {
            self.fill();
            (self.held, self.count) = (0, 0);
        }
        // Any number of fill bytes may come before the marker.
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
        if fill == 0 || rest.get(fill) != Some(&(super::super::jpeg::RESTART_FIRST + expected)) {
            return false;
        }
        self.position += fill + 1;
        self.ended = false;
        true
    }

    /// Reads bytes until more than 55 bits are held or the data end.
    #[inline]
    fn fill(&mut self) {
        // Eight bytes without a stuffed zero or a marker are taken at once, as far as they fit. Those that fit in part
        // are taken again, with the same bits.
        if let Some(&next) = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk::<8>()) {
            let next = u64::from_be_bytes(next);
            if !has_ff(next) {
                self.held |= next >> self.count;
                self.position += ((63 - self.count) / 8) as usize;
                self.count |= 56;
                return;
            }
        }
        self.fill_by_bytes();
    }

    fn fill_by_bytes(&mut self) {
        // Bits of a byte that was taken in part are dropped.
        self.held &= !(u64::MAX >> self.count);
        while self.count <= 56 && !self.ended {
            let byte = match self.bytes.get(self.position..) {
                Some([0xFF, 0, ..]) => {
                    self.position += 1;
                    0xFF
                }
                Some([0xFF, ..]) | Some([]) | None => {
                    self.ended = true;
                    return;
                }
                Some([byte, ..]) => *byte,
            };
            self.position += 1;
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }
}

/// Whether one of the eight bytes is 0xFF.
fn has_ff(bytes: u64) -> bool {
    const LOW: u64 = u64::MAX / 0xFF;
    let zeros = !bytes;
    zeros.wrapping_sub(LOW) & bytes & (LOW << 7) != 0
}
