//! Writer of torch's zip format for state dicts. The entries `data.pkl`, `byteorder`, `data/<n>` and `version` are not
//! compressed.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Folder that contains all entries of the zip file.
const ROOT: &str = "archive";
/// Alignment of the tensors' data in the file, in bytes, as in files written by torch.
const ALIGNMENT: u16 = 64;
/// Content of the entry `version`: the version of torch's file format.
const VERSION: &str = "3\n";

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TorchType {
    F32,
    F16,
    I64,
}

impl TorchType {
    fn storage(self) -> &'static str {
        match self {
            Self::F32 => "FloatStorage",
            Self::F16 => "HalfStorage",
            Self::I64 => "LongStorage",
        }
    }
}

/// A row-major tensor as little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TorchTensor {
    /// Element type of the tensor.
    pub kind: TorchType,
    /// Shape of the tensor, outermost axis first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements in row-major order as little-endian bytes.
    pub bytes: Vec<u8>,
}

/// The bytes of a zip file with the given tensors. Equal tensors give equal bytes.
pub(crate) fn torch_file(tensors: &BTreeMap<String, TorchTensor>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    let mut entry = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("{ROOT}/{name}"), options).expect("writing to memory does not fail");
        zip.write_all(bytes).expect("writing to memory does not fail");
    };
    entry("data.pkl", &pickle(tensors));
    entry("byteorder", b"little");
    for (i, tensor) in tensors.values().enumerate() {
        entry(&format!("data/{i}"), &tensor.bytes);
    }
    entry("version", VERSION.as_bytes());
    zip.finish().expect("writing to memory does not fail").into_inner()
}

/// A pickle of protocol 2 with a dict of
/// `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
fn pickle(tensors: &BTreeMap<String, TorchTensor>) -> Vec<u8> {
    let mut out = vec![0x80, 2, b'}', b'('];
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let elements: usize = tensor.shape.iter().product();
        text(&mut out, name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.push(b'(');
        // The storage is given by the persistent id ('storage', type, key, location, number of elements).
        out.push(b'(');
        text(&mut out, "storage");
        global(&mut out, "torch", tensor.kind.storage());
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        int(&mut out, elements);
        out.extend(b"tQ");
        int(&mut out, 0);
        tuple(&mut out, &tensor.shape);
        tuple(&mut out, &strides(&tensor.shape));
        out.push(0x89); // False: no gradient
        global(&mut out, "collections", "OrderedDict");
        out.extend(b")R"); // no hooks
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

/// Row-major strides in elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

fn int(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend((value as i64).to_le_bytes());
        }
    }
}

fn tuple(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    for value in values {
        int(out, *value);
    }
    out.push(b't');
}
