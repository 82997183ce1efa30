//! Huffman tables of JPEG files (ITU-T T.81, annex C and section F.2.2.3).

use super::bits::Bits;
use super::block::Defect;

/// Longest code in bits.
const LONGEST: usize = 16;
/// Number of bits that are looked up at once; longer codes are searched by length.
const FAST: u32 = 10;

/// A Huffman table.
pub(super) struct Table {
    /// For each value of the next bits: length of the code and its symbol; length 0 for longer codes.
    fast: Box<[(u8, u8); 1 << FAST]>,
    /// For each length from 1 to 16: first code of this length, number of codes, index of the first symbol.
    lengths: [Codes; LONGEST],
    symbols: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Codes {
    first: u32,
    count: u32,
    symbol: usize,
}

impl Table {
    /// Reads a table: 16 counts of codes by length, then the symbols. Returns it with the bytes after it. `None` if the
    /// bytes end too early or there are more codes than codes of these lengths.
    pub(super) fn of(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = bytes.split_first_chunk::<LONGEST>()?;
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let mut lengths = [Codes::default(); LONGEST];
        let mut fast = Box::new([(0, 0); 1 << FAST]);
        let (mut code, mut symbol) = (0u32, 0usize);
        for (index, (&count, codes)) in counts.iter().zip(&mut lengths).enumerate() {
            let (bits, count) = (index as u32 + 1, u32::from(count));
            if code + count > 1 << bits {
                return None;
            }
            *codes = Codes { first: code, count, symbol };
            for offset in 0..count {
                if bits <= FAST {
                    let from = ((code + offset) << (FAST - bits)) as usize;
                    fast[from..from + (1 << (FAST - bits))].fill((bits as u8, symbols[symbol + offset as usize]));
                }
            }
            symbol += count as usize;
            code = (code + count) << 1;
        }
        Some((Self { fast, lengths, symbols: symbols.to_vec() }, rest))
    }

    /// Reads a symbol.
    #[inline]
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Result<u8, Defect> {
        let (length, symbol) = self.peek(bits)?;
        bits.skip(length)?;
        Ok(symbol)
    }

    /// Reads a symbol whose lowest four bits are the number of bits of a value, and passes over this value.
    #[inline]
    pub(super) fn read_with_value(&self, bits: &mut Bits<'_>) -> Result<u8, Defect> {
        let (length, symbol) = self.peek(bits)?;
        bits.skip(length + u32::from(symbol & 15))?;
        Ok(symbol)
    }

    /// The length of the next code and its symbol.
    #[inline]
    fn peek(&self, bits: &mut Bits<'_>) -> Result<(u32, u8), Defect> {
        let next = bits.peek();
        match self.fast[(next >> (LONGEST as u32 - FAST)) as usize] {
            (0, _) => self.search(next, bits),
            (length, symbol) => Ok((u32::from(length), symbol)),
        }
    }

    /// The length of the code at the start of these bits and its symbol, if the code has more than [`FAST`] bits.
    #[cold]
    fn search(&self, next: u32, bits: &Bits<'_>) -> Result<(u32, u8), Defect> {
        for (index, codes) in self.lengths.iter().enumerate().skip(FAST as usize) {
            let length = index as u32 + 1;
            let place = (next >> (LONGEST as u32 - length)).wrapping_sub(codes.first);
            if place < codes.count {
                return Ok((length, self.symbols[codes.symbol + place as usize]));
            }
        }
        // Beyond the end of the data the next bits are 0 and not a damaged code.
        Err(if bits.exhausted() { Defect::Exhausted } else { Defect::Invalid })
    }
}
