//! Changes to weight files that keep enough of their structure to get far into the readers.

use std::io::{Cursor, Read, Write};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// SplitMix64 (Steele et al., 2014), so that every case depends only on its number.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A zip archive of torch.
    Zip,
    /// A stream of pickles.
    Stream,
    /// safetensors.
    SafeTensors,
}

/// Opcodes of pickles, and bytes that are not opcodes.
const OPCODES: &[u8] = b".(01 2NIJKLMFGVXTUBCcRPQbtld}])esauhjgqrp\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\
      \x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97";
/// Words of the formats, and others that replace them.
const WORDS: [(&str, &[&str]); 20] = [
    (
        "FloatStorage",
        &["LongStorage", "HalfStorage", "DoubleStorage", "BoolStorage", "QInt8Storage", "ComplexFloatSto"],
    ),
    ("_rebuild_tensor_v2", &["_rebuild_tensor", "_rebuild_qtensor", "_rebuild_parameter", "system"]),
    ("torch._utils", &["posix", "torch._tensor", "builtins", "numpy"]),
    ("OrderedDict", &["dict", "defaultdict", "deque"]),
    ("storage", &["module", "s"]),
    ("weight", &["bias", "w", "running_var", "../../weight", ""]),
    ("backbone", &["", "b", "backbone.body"]),
    ("layer1", &["layer2", "layer99999999999999999999", "layer-1", "res2", "layer"]),
    ("layer4.1", &["layer4.18446744073709551615", "layer4.0", "layer4.7"]),
    ("F32", &["F16", "I8", "F64", "BOOL", "F8_E4M3", "X"]),
    ("data_offsets", &["data_offset", "shape"]),
    ("shape", &["dtype", "shap"]),
    ("base_width", &["base_widt", "fpn_channels"]),
    ("resnet18", &["resnet50", "resnet152", "resnet"]),
    ("[", &["[[", "{", "[9223372036854775807,", "[-1,"]),
    ("cls_logits", &["bbox_reg", "cls"]),
    ("first/", &["second/", "ema/", "other/", "first"]),
    ("ema/", &["weights/", "ema"]),
    ("_updates", &["_update", "_updates\\\":9,\\\"_"]),
    ("epoch", &["step", "epochs"]),
];
/// Numbers to which lengths, counts and offsets are set.
const NUMBERS: [u64; 14] = [0, 1, 2, 7, 8, 127, 128, 255, 65_535, 1 << 20, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];
/// Number of bytes at the start and at the end of a file that contain most of its structure.
const STRUCTURE: usize = 6000;

/// A changed copy of a file.
pub(crate) fn mutate(whole: &[u8], kind: Kind, random: &mut Random) -> Vec<u8> {
    let mut bytes = match (kind, random.below(4)) {
        // The checksums of the archive's entries are corrected, else most cases would only test the checksum.
        (Kind::Zip, 0..3) => return repacked(whole, random),
        (Kind::SafeTensors, 0..3) => return reheaded(whole, random),
        _ => whole.to_vec(),
    };
    changes(&mut bytes, random);
    bytes
}

/// Makes a few changes, most of them to the file's structure.
fn changes(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        change(bytes, random);
    }
}

fn place(bytes: &[u8], random: &mut Random) -> usize {
    match random.below(4) {
        0 => random.below(bytes.len()),
        1 => bytes.len().saturating_sub(1 + random.below(STRUCTURE)),
        _ => random.below(bytes.len().min(STRUCTURE)),
    }
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = place(bytes, random);
    match random.below(13) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = *random.one(OPCODES),
        3 | 4 => {
            let (number, width) = (*random.one(&NUMBERS), *random.one(&[1, 2, 4, 8]));
            let raw = if random.below(8) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
            for (to, from) in bytes[at..].iter_mut().zip(&raw[..width]) {
                *to = *from;
            }
        }
        5 => {
            let end = (at + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let from = place(bytes, random);
            let piece = bytes[from..(from + random.below(200)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece.repeat(1 + random.below(3)));
        }
        7 => {
            let nan = *random.one(&[f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE / 2.0]);
            let at = at / 4 * 4;
            for (to, from) in bytes[at..].iter_mut().zip(nan.to_le_bytes()) {
                *to = from;
            }
        }
        8 | 9 => {
            let (word, others) = random.one(&WORDS);
            let other = random.one(others);
            replace(bytes, word, other, random);
        }
        10 => {
            // Changes a digit of a number in text form.
            let digits: Vec<usize> = (at..bytes.len().min(at + 400)).filter(|i| bytes[*i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let at = *random.one(&digits);
                let new = random.one(&["9", "0", "99999999", "-1", "1e300", "18446744073709551616"]);
                bytes.splice(at..=at, new.bytes());
            }
        }
        11 => {
            // Nests deeply, in JSON and in pickles.
            let piece = *random.one(&["[", "{\"a\":", "(", "]"]);
            bytes.splice(at..at, piece.repeat(*random.one(&[20, 300, 50_000])).bytes());
        }
        _ => {
            let piece: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, piece);
        }
    }
}

/// Replaces one occurrence of a word by another word. In a pickle the length before it is often corrected.
fn replace(bytes: &mut Vec<u8>, word: &str, other: &str, random: &mut Random) {
    let found: Vec<usize> = bytes
        .windows(word.len())
        .enumerate()
        .filter(|(_, w)| *w == word.as_bytes())
        .map(|(i, _)| i)
        .take(200)
        .collect();
    if found.is_empty() {
        return;
    }
    let at = *random.one(&found);
    if at >= 4 && random.below(2) == 0 {
        let before: [u8; 4] = bytes[at - 4..at].try_into().expect("four bytes");
        let length = u32::from_le_bytes(before);
        if length < 256 {
            let new = (i64::from(length) + other.len() as i64 - word.len() as i64).max(0) as u32;
            bytes[at - 4..at].copy_from_slice(&new.to_le_bytes());
        }
    }
    bytes.splice(at..at + word.len(), other.bytes());
}

/// Writes the archive again with changed entries or changed names of entries.
fn repacked(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(whole)).expect("the seed is an archive");
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).expect("the seed is whole");
        let mut name = entry.name().expect("a name").into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("the seed is whole");
        let pickle = name.ends_with("data.pkl");
        if pickle && random.below(8) != 0 || !pickle && random.below(60) == 0 {
            changes(&mut bytes, random);
        }
        match random.below(400) {
            0 => continue,
            1 => name = name.replace("archive", "other"),
            2 => name.push('0'),
            _ => {}
        }
        let method = if random.below(2000) == 0 { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let started = out.start_file(name, SimpleFileOptions::default().compression_method(method));
        if started.is_ok() {
            out.write_all(&bytes).expect("memory takes bytes");
        }
    }
    let mut bytes = out.finish().expect("memory takes the directory").into_inner();
    if random.below(8) == 0 {
        change(&mut bytes, random);
    }
    bytes
}

/// Writes the safetensors file again with a changed header and the correct length of the header. In most cases the
/// checksum of checkpoints and states is corrected, else they would only test the checksum.
fn reheaded(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    let (mut header, mut data) = (whole[8..8 + length].to_vec(), whole[8 + length..].to_vec());
    changes(&mut header, random);
    if random.below(6) == 0 {
        change(&mut data, random);
    }
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    if random.below(8) == 0 { bytes } else { resealed(&bytes).unwrap_or(bytes) }
}

/// Corrects the checksum in the metadata of a checkpoint or training state, as `foveal_weights::seal` computes it.
/// Returns `None` if the bytes are no safetensors file or have no checksum.
fn resealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let file = SafeTensors::deserialize(bytes).ok()?;
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let text = header.metadata().as_ref()?.values().next()?;
    let inner = text.strip_suffix("\"}")?;
    let (open, checksum) = inner.split_at_checked(inner.len().checked_sub(64)?)?;
    if !open.ends_with("\"checksum\":\"") {
        return None;
    }
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(open.as_bytes());
    let mut views: Vec<_> = file.iter().collect();
    views.sort_unstable_by_key(|(name, _)| *name);
    for (name, view) in views {
        part(name.as_bytes());
        part(format!("{:?}{:?}", view.dtype(), view.shape()).as_bytes());
        part(view.data());
    }
    let new: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let at = bytes.windows(checksum.len()).position(|window| window == checksum.as_bytes())?;
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    Some(bytes)
}
