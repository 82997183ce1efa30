//! PyTorch's files, read without executing anything: zip archives, and the stream of pickles before torch 1.6.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use burn::store::pytorch_reader::{DType as TorchType, PickleValue, PytorchReader};
use zip::ZipArchive;

use crate::acting::acting;
use crate::pickle::{Survey, survey};
use crate::tensors::{Float, floats};
use crate::{HostTensor, OtherTensor, WeightFile, WeightsError, bound};

/// Keys under which training scripts keep the state dict.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// The key under which they keep the network's name.
const ARCH: &str = "arch";
/// The number that a stream of pickles begins with, in binary and in text.
const MAGIC: [&[u8]; 2] = [&[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], b"119547037146038801333356"];
/// How far into the file that number is looked for: behind the headers of any protocol.
const MAGIC_WITHIN: usize = 64;
/// Pickles before the tensors of a stream: number, version, system, state dict, list of storages.
const PICKLES: usize = 5;
/// Letters of a message that quotes the file.
const QUOTED: usize = 300;
/// Where a tar archive has its magic number.
const TAR: std::ops::Range<usize> = 257..262;

/// Containers that `torch.save` has written, and plain pickles.
enum Container {
    Zip,
    Stream,
    Pickle,
}

/// Reads a file that begins with `head`.
pub(crate) fn read(path: &Path, head: &[u8]) -> Result<WeightFile, WeightsError> {
    contents(path, head).map_err(|found| WeightsError::Format { path: path.to_owned(), found })
}

fn contents(path: &Path, head: &[u8]) -> Result<WeightFile, String> {
    let container = container(head)?;
    look_over(path, &container)?;
    let root = PytorchReader::read_pickle_data(path, None).map_err(|e| short(&e))?;
    let PickleValue::Dict(root) = root else {
        return Err(format!("a pickle of {}, which is no state dict", short(&kind(&root))));
    };
    let wrapper = WRAPPERS.into_iter().find(|key| matches!(root.get(*key), Some(PickleValue::Dict(_))));
    let reader = match wrapper {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let reader = reader.map_err(|e| short(&e))?;
    if reader.is_empty() {
        let mut keys: Vec<&str> = root.keys().map(String::as_str).collect();
        keys.sort_unstable();
        return Err(short(&format!("no tensors; its keys are {}", keys.join(", "))));
    }
    bound::tensors(path, reader.tensors().values())?;
    let arch = match root.get(ARCH) {
        Some(PickleValue::String(arch)) => Some(arch.clone()),
        _ => None,
    };
    let mut out = WeightFile { arch, ..WeightFile::default() };
    for (name, tensor) in reader.into_tensors() {
        let float = match tensor.dtype() {
            TorchType::F64 => Float::F64,
            TorchType::F32 => Float::F32,
            TorchType::F16 => Float::F16,
            TorchType::BF16 => Float::BF16,
            other => {
                out.others.push(OtherTensor { name, dtype: format!("{other:?}") });
                continue;
            }
        };
        let bytes = tensor.read().map_err(|e| short(&e))?;
        out.tensors.insert(name, HostTensor { shape: tensor.shape().to_vec(), values: floats(&float, &bytes) });
    }
    out.others.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn container(head: &[u8]) -> Result<Container, String> {
    let begins = &head[..head.len().min(MAGIC_WITHIN)];
    let magic = |number: &[u8]| begins.windows(number.len()).any(|bytes| bytes == number);
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Ok(Container::Zip)
    } else if head.get(TAR) == Some(b"ustar") {
        // Its entries can be sparse: a small archive of any size once it is read.
        Err("a tar archive, as torch wrote them before 0.1.10; save the weights anew with torch.save".into())
    } else if MAGIC.into_iter().any(magic) {
        Ok(Container::Stream)
    } else if matches!(head.first(), Some(0x80 | b'(' | b'}' | b']' | b'c')) {
        Ok(Container::Pickle)
    } else if head.is_empty() {
        Err("an empty file".into())
    } else {
        Err("neither's first bytes".into())
    }
}

/// Walks over the pickles before they are read: refuses those that name functions of Python's which act, that would take
/// far more memory than weights do, or that have no tensors.
fn look_over(path: &Path, container: &Container) -> Result<(), String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    match container {
        Container::Zip => {
            let mut archive = ZipArchive::new(file).map_err(|e| format!("a damaged zip archive ({e})"))?;
            bound::entries(&mut archive)?;
            for i in 0..archive.len() {
                let entry = archive.by_index(i).map_err(|e| format!("a damaged zip archive ({e})"))?;
                if entry.name().is_ok_and(|name| name.ends_with("data.pkl")) {
                    judge(&survey(&mut BufReader::new(entry))?)?;
                }
            }
            Ok(())
        }
        Container::Stream => {
            let mut file = file;
            for _ in 0..PICKLES {
                judge(&survey(&mut file)?)?;
            }
            Ok(())
        }
        Container::Pickle => Err(plain_pickle(file)),
    }
}

fn judge(survey: &Survey) -> Result<(), String> {
    if let Some(name) = acting(&survey.globals) {
        return Err(format!(
            "a pickle that names {name}, which acts when Python loads the file (nothing was executed here); weights have \
             no use for it"
        ));
    }
    if survey.too_large {
        return Err("a pickle that would take far more memory than the names and shapes of weights do".into());
    }
    Ok(())
}

/// What a pickle without torch's container is.
fn plain_pickle(mut file: impl BufRead) -> String {
    let survey = match survey(&mut file) {
        Ok(survey) => survey,
        Err(e) => return e,
    };
    if let Err(e) = judge(&Survey { too_large: false, globals: survey.globals.clone() }) {
        return e;
    }
    if survey.globals.iter().any(|name| name.starts_with("numpy.")) {
        return "a pickle of numpy arrays, as Detectron2's model zoo has them (.pkl); foveal reads torch's tensors: in \
                Python, d = pickle.load(open(FILE, \"rb\"), encoding=\"latin1\"); torch.save({k: torch.as_tensor(v) for \
                k, v in d.get(\"model\", d).items()}, \"weights.pth\")"
            .into();
    }
    let names: Vec<&str> = survey.globals.iter().map(String::as_str).collect();
    match names.as_slice() {
        [] => "a pickle without tensors".into(),
        names => short(&format!("a pickle without tensors, of {}", names.join(", "))),
    }
}

/// A message that quotes a file, whose names can be of any length.
fn short(message: &impl ToString) -> String {
    let message = message.to_string();
    match message.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

fn kind(value: &PickleValue) -> &str {
    match value {
        PickleValue::None => "None",
        PickleValue::Bool(_) => "a bool",
        PickleValue::Int(_) => "an int",
        PickleValue::Float(_) => "a float",
        PickleValue::String(_) => "a str",
        PickleValue::List(_) => "a list",
        PickleValue::Dict(_) => "a dict",
        PickleValue::Bytes(_) => "bytes",
        PickleValue::Unsupported(name) => name,
    }
}
