//! Reading of JSON files, including gzipped files, byte order marks and Python's `NaN`.

use std::{
    borrow::Cow,
    fs,
    io::{self, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

use crate::CocoError;

/// The first bytes of a gzip stream (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// U+FEFF in UTF-8, which some Windows programs write at the start of a file.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The literals that Python's `json` writes for numbers that JSON cannot represent. `-Infinity` comes before
/// `Infinity`, which is its ending.
const NON_FINITE: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Reads the whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CocoError> {
    fs::read(path).map_err(|source| CocoError::Read { path: path.to_owned(), source })
}

/// Parses JSON text, gzipped or not. `path` is only used in error messages.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, CocoError> {
    let plain = unpack(bytes).map_err(|source| CocoError::Read { path: path.to_owned(), source })?;
    let text = plain.strip_prefix(&BYTE_ORDER_MARK).unwrap_or(&plain);
    let result = match serde_json::from_slice(text) {
        // Only a file that strict JSON rejects is searched for Python's extra literals.
        Err(e) if e.is_syntax() => match without_non_finite(text) {
            Some(cleaned) => serde_json::from_slice(&cleaned),
            None => Err(e),
        },
        other => other,
    };
    result.map_err(|e| {
        let place = format!(" at line {} column {}", e.line(), e.column());
        let text = e.to_string();
        CocoError::Json {
            path: path.to_owned(),
            line: e.line(),
            column: e.column(),
            message: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
        }
    })
}

fn unpack(bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(Cow::Owned(plain))
}

/// Replaces `NaN` and infinities outside strings by `null`. Returns `None` if the text contains none.
fn without_non_finite(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut in_string, mut found) = (0, false, false);
    while at < text.len() {
        let byte = text[at];
        if in_string && byte == b'\\' {
            out.extend_from_slice(&text[at..text.len().min(at + 2)]);
            at += 2;
            continue;
        }
        if byte == b'"' {
            in_string = !in_string;
        } else if !in_string && let Some(literal) = NON_FINITE.iter().find(|l| text[at..].starts_with(l)) {
            out.extend_from_slice(b"null");
            at += literal.len();
            found = true;
            continue;
        }
        out.push(byte);
        at += 1;
    }
    found.then_some(out)
}
