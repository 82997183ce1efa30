//! The Huffman codes of the blocks of one scan (ITU-T T.81, sections F.2.2 and G.1.2).

use super::super::Flaw;
use super::bits::Bits;
use super::frame::{Frame, Scan};
use super::huffman::Table;
use super::{Tables, malformed};

/// Number of coefficients of a block.
const COEFFICIENTS: usize = 64;
/// Largest number of bits of a coefficient.
const MAX_BITS: u8 = 15;

/// A defect of the codes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// The data end inside the block.
    Exhausted,
    /// A code is not in its table, or a coefficient has no place in the block.
    Invalid,
}

/// What the blocks of a scan contain.
#[derive(Clone, Copy)]
enum Content {
    /// All coefficients (sequential frames).
    All,
    /// The first coefficient, for the first time.
    First,
    /// Another bit of the first coefficient.
    FirstRefined,
    /// A band of the other coefficients, for the first time.
    Band,
    /// Another bit of such a band.
    BandRefined,
}

/// One component of the scan.
struct Part<'a> {
    blocks_in_group: usize,
    dc: Option<&'a Table>,
    ac: Option<&'a Table>,
}

/// The state of reading a scan.
pub(super) struct Pass<'a> {
    parts: Vec<Part<'a>>,
    content: Content,
    first: usize,
    last: usize,
    /// Number of following blocks whose bands have ended.
    ended_bands: u32,
    /// The coefficients that are not 0 of each block of the only component; empty in a scan of several components.
    nonzero: &'a mut [u64],
}

impl<'a> Pass<'a> {
    pub(super) fn new(scan: &Scan, frame: &'a mut Frame, tables: &'a Tables) -> Result<Self, Flaw> {
        let content = match (frame.progressive, scan.first, scan.refines) {
            (false, ..) => Content::All,
            (true, 0, false) => Content::First,
            (true, 0, true) => Content::FirstRefined,
            (true, _, false) => Content::Band,
            (true, _, true) => Content::BandRefined,
        };
        let needs_dc = matches!(content, Content::All | Content::First);
        let needs_ac = matches!(content, Content::All | Content::Band | Content::BandRefined);
        let single = scan.components.len() == 1;
        let mut parts = Vec::new();
        for found in &scan.components {
            let component = &mut frame.components[found.index];
            component.seen |= needs_dc;
            parts.push(Part {
                blocks_in_group: if single { 1 } else { component.blocks_in_group },
                dc: table(&tables.dc, found.dc, needs_dc)?,
                ac: table(&tables.ac, found.ac, needs_ac)?,
            });
        }
        let nonzero = match &scan.components[..] {
            [only] => &mut frame.components[only.index].nonzero[..],
            _ => &mut [],
        };
        Ok(Self { parts, content, first: scan.first, last: scan.last, ended_bands: 0, nonzero })
    }

    /// Begins a restart interval.
    pub(super) fn restart(&mut self) {
        self.ended_bands = 0;
    }

    /// Reads the blocks of a group, which is counted from 0.
    pub(super) fn group(&mut self, bits: &mut Bits<'_>, group: usize) -> Result<(), Defect> {
        let (first, last) = (self.first, self.last);
        for part in &self.parts {
            for _ in 0..part.blocks_in_group {
                match (self.content, part.dc, part.ac) {
                    (Content::All, Some(dc), Some(ac)) => {
                        first_coefficient(bits, dc)?;
                        coefficients(bits, ac)?;
                    }
                    (Content::First, Some(dc), _) => first_coefficient(bits, dc)?,
                    (Content::FirstRefined, ..) => bits.skip(1)?,
                    (Content::Band, _, Some(ac)) => {
                        let block = self.nonzero.get_mut(group).ok_or(Defect::Invalid)?;
                        band(bits, ac, [first, last], &mut self.ended_bands, block)?;
                    }
                    (Content::BandRefined, _, Some(ac)) => {
                        let block = self.nonzero.get_mut(group).ok_or(Defect::Invalid)?;
                        refined_band(bits, ac, [first, last], &mut self.ended_bands, block)?;
                    }
                    _ => return Err(Defect::Invalid),
                }
            }
        }
        Ok(())
    }
}

/// The table with a number, which must be defined if it is `needed`.
fn table(tables: &[Option<Table>; 4], number: usize, needed: bool) -> Result<Option<&Table>, Flaw> {
    match tables.get(number).and_then(Option::as_ref) {
        None if needed => Err(malformed(format!("the Huffman table {number} of a scan is not defined"))),
        table => Ok(table),
    }
}

fn first_coefficient(bits: &mut Bits<'_>, table: &Table) -> Result<(), Defect> {
    let length = table.read(bits)?;
    if length > MAX_BITS { Err(Defect::Invalid) } else { bits.skip(u32::from(length)) }
}

/// All coefficients of a block but the first.
fn coefficients(bits: &mut Bits<'_>, table: &Table) -> Result<(), Defect> {
    let mut place = 1;
    while place < COEFFICIENTS {
        let (run, length) = split(table.read_with_value(bits)?);
        if length == 0 && run < 15 {
            return Ok(());
        }
        place += run + 1;
        if place > COEFFICIENTS && length > 0 {
            return Err(Defect::Invalid);
        }
    }
    Ok(())
}

/// A band of coefficients for the first time (section G.1.2.2).
fn band(
    bits: &mut Bits<'_>,
    table: &Table,
    [first, last]: [usize; 2],
    ended: &mut u32,
    nonzero: &mut u64,
) -> Result<(), Defect> {
    if *ended > 0 {
        *ended -= 1;
        return Ok(());
    }
    let mut place = first;
    while place <= last {
        let (run, length) = split(table.read(bits)?);
        if length == 0 {
            if run < 15 {
                *ended = (1 << run) - 1 + bits.read(run as u32)?;
                break;
            }
            place += 16;
            continue;
        }
        place += run;
        if place > last {
            return Err(Defect::Invalid);
        }
        bits.skip(length)?;
        *nonzero |= 1 << place;
        place += 1;
    }
    Ok(())
}

/// Another bit of a band of coefficients (section G.1.2.3).
fn refined_band(
    bits: &mut Bits<'_>,
    table: &Table,
    [first, last]: [usize; 2],
    ended: &mut u32,
    nonzero: &mut u64,
) -> Result<(), Defect> {
    let mut place = first;
    if *ended == 0 {
        while place <= last {
            let (run, length) = split(table.read(bits)?);
            match length {
                0 if run < 15 => {
                    *ended = (1 << run) + bits.read(run as u32)?;
                    break;
                }
                // The sign of a coefficient that becomes 1 or -1.
                0 => {}
                1 => bits.skip(1)?,
                _ => return Err(Defect::Invalid),
            }
            // Coefficients that are 0 so far are counted; the others have a bit each.
            let mut zeros = run;
            while place <= last {
                if *nonzero >> place & 1 == 1 {
                    bits.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                place += 1;
            }
            if length == 1 {
                if place > last {
                    return Err(Defect::Invalid);
                }
                *nonzero |= 1 << place;
            }
            place += 1;
        }
    }
    if *ended > 0 {
        let rest = (place..=last).filter(|&at| *nonzero >> at & 1 == 1).count();
        for _ in 0..rest {
            bits.skip(1)?;
        }
        *ended -= 1;
    }
    Ok(())
}

/// Splits a symbol into a run of zeros and a number of bits.
fn split(symbol: u8) -> (usize, u32) {
    (usize::from(symbol >> 4), u32::from(symbol & 15))
}
