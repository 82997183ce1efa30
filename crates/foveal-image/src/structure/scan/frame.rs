//! Frame headers and scan headers of JPEG files (ITU-T T.81, sections B.2.2 and B.2.3).

use super::super::Flaw;
use super::{malformed, u16_at};

/// Side of a block in samples.
const SIDE: usize = 8;
/// Largest sampling factor.
const MAX_FACTOR: u8 = 4;

/// One component (colour channel) of a frame.
pub(super) struct Component {
    pub id: u8,
    /// Blocks of the component in each group of blocks of a scan of several components.
    pub blocks_in_group: usize,
    /// Number of blocks of the component in a scan of its own.
    pub blocks: usize,
    /// Whether a scan has had its first coefficients.
    pub seen: bool,
    /// For each block the coefficients that are not 0, on which the scans of a progressive frame depend: bit `k` for
    /// the coefficient at place `k` of the zigzag. Empty in sequential frames.
    pub nonzero: Vec<u64>,
}

/// The frame: the size of the image and its components.
pub(super) struct Frame {
    pub progressive: bool,
    pub components: Vec<Component>,
    /// Number of groups of blocks of a scan of several components.
    groups: usize,
}

impl Frame {
    /// Reads the content of a frame header.
    pub(super) fn of(progressive: bool, content: &[u8]) -> Result<Self, Flaw> {
        let (height, width) = (usize::from(u16_at(content, 1)?), usize::from(u16_at(content, 3)?));
        let listed = content.get(6..).unwrap_or_default();
        let count = content.get(5).copied().map_or(0, usize::from);
        let factors: Vec<[usize; 2]> =
            listed.chunks_exact(3).take(count).map(|c| [c[1] >> 4, c[1] & 15].map(usize::from)).collect();
        let valid = |factor: &usize| (1..=usize::from(MAX_FACTOR)).contains(factor);
        if factors.len() != count || count == 0 || !factors.iter().flatten().all(valid) {
            return Err(malformed("the frame header of the JPEG file is damaged".to_owned()));
        }
        let most = |axis: usize| factors.iter().map(|factor| factor[axis]).max().unwrap_or(1);
        let (most_across, most_down) = (most(0), most(1));
        let components = listed.chunks_exact(3).zip(&factors).map(|(entry, &[across, down])| {
            let columns = (width * across).div_ceil(most_across).div_ceil(SIDE);
            let rows = (height * down).div_ceil(most_down).div_ceil(SIDE);
            let blocks = columns * rows;
            let nonzero = if progressive { vec![0; blocks] } else { Vec::new() };
            Component { id: entry[0], blocks_in_group: across * down, blocks, seen: false, nonzero }
        });
        let components = components.collect();
        let groups = width.div_ceil(SIDE * most_across) * height.div_ceil(SIDE * most_down);
        Ok(Self { progressive, components, groups })
    }

    /// The id of a component that no scan has had.
    pub(super) fn without_scan(&self) -> Option<u8> {
        self.components.iter().find(|component| !component.seen).map(|component| component.id)
    }
}

/// A component of a scan, with the numbers of its Huffman tables.
pub(super) struct ScanComponent {
    /// Index of the component in the frame.
    pub index: usize,
    pub dc: usize,
    pub ac: usize,
}

/// The header of a scan.
pub(super) struct Scan {
    pub components: Vec<ScanComponent>,
    /// First and last coefficient of the scan, as places of the zigzag.
    pub first: usize,
    pub last: usize,
    /// Whether the scan adds a bit to coefficients of an earlier scan.
    pub refines: bool,
}

impl Scan {
    /// Reads the content of a scan header.
    pub(super) fn of(content: &[u8], frame: &Frame) -> Result<Self, Flaw> {
        let damaged = || malformed("a scan header of the JPEG file is damaged".to_owned());
        let (&[count], rest) = content.split_first_chunk().ok_or_else(damaged)?;
        let (listed, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or_else(damaged)?;
        let &[first, last, approximation, ..] = rest else { return Err(damaged()) };
        let component = |entry: &[u8]| {
            let index = frame.components.iter().position(|component| component.id == entry[0])?;
            Some(ScanComponent { index, dc: usize::from(entry[1] >> 4), ac: usize::from(entry[1] & 15) })
        };
        let components: Option<Vec<ScanComponent>> = listed.chunks_exact(2).map(component).collect();
        let components = components.filter(|found| !found.is_empty()).ok_or_else(damaged)?;
        // Sequential frames always have all coefficients; their headers need not say so.
        let (first, last) = if frame.progressive { (usize::from(first), usize::from(last)) } else { (0, 63) };
        let band = first <= last && last < 64 && (!frame.progressive || (first == 0) == (last == 0));
        if !band || (first > 0 && components.len() > 1) {
            return Err(damaged());
        }
        Ok(Self { components, first, last, refines: frame.progressive && approximation >> 4 > 0 })
    }

    /// Number of groups of blocks of the scan. In a scan of one component, a group is one block.
    pub(super) fn groups(&self, frame: &Frame) -> usize {
        match &self.components[..] {
            [only] => frame.components[only.index].blocks,
            _ => frame.groups,
        }
    }
}
