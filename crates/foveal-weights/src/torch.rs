//! Reading of PyTorch files without executing code: zip archives, and streams of pickles from before torch 1.6.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use burn::store::pytorch_reader::{DType as TorchType, PickleValue, PytorchReader};
use foveal_base::excerpt;
use zip::ZipArchive;

use crate::acting::dangerous;
use crate::pickle::{Survey, survey};
use crate::tensors::{Float, floats};
use crate::{HostTensor, OtherTensor, WeightFile, WeightsError, bound};

/// Keys under which training scripts store the state dict.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// Key under which training scripts store the network's name.
const ARCH: &str = "arch";
/// The magic number at the start of a stream of pickles, in binary and in text form.
const MAGIC: [&[u8]; 2] = [&[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], b"119547037146038801333356"];
/// Number of bytes at the start of the file that are searched for [`MAGIC`]; it follows a header that depends on the
/// pickle protocol.
const MAGIC_WITHIN: usize = 64;
/// Number of pickles before the tensors of a stream: magic number, version, system, state dict, list of storages.
const PICKLES: usize = 5;
/// Position of the magic number in a tar archive.
const TAR: std::ops::Range<usize> = 257..262;

/// Kind of a file: a container that `torch.save` writes or wrote, or a plain pickle.
enum Container {
    Zip,
    Stream,
    Pickle,
}

/// Reads a PyTorch file whose first bytes are `head`.
pub(crate) fn read(path: &Path, head: &[u8]) -> Result<WeightFile, WeightsError> {
    contents(path, head).map_err(|found| WeightsError::Format { path: path.to_owned(), found })
}

fn contents(path: &Path, head: &[u8]) -> Result<WeightFile, String> {
    let container = container(head)?;
    check_pickles(path, &container)?;
    let root = PytorchReader::read_pickle_data(path, None).map_err(excerpt)?;
    let PickleValue::Dict(root) = root else {
        return Err(format!("a pickle of {}, which is not a state dict", excerpt(kind(&root))));
    };
    let wrapper = WRAPPERS.into_iter().find(|key| matches!(root.get(*key), Some(PickleValue::Dict(_))));
    let reader = match wrapper {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let reader = reader.map_err(excerpt)?;
    if reader.is_empty() {
        let mut keys: Vec<&str> = root.keys().map(String::as_str).collect();
        keys.sort_unstable();
        return Err(excerpt(format!("a file without tensors, with the keys {}", keys.join(", "))));
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
        let bytes = tensor.read().map_err(excerpt)?;
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
        // The entries of a tar archive can be sparse, so a small archive can expand to any size.
        Err("a tar archive, as written by torch before 0.1.10; save the weights again with torch.save".into())
    } else if MAGIC.into_iter().any(magic) {
        Ok(Container::Stream)
    } else if matches!(head.first(), Some(0x80 | b'(' | b'}' | b']' | b'c')) {
        Ok(Container::Pickle)
    } else if head.is_empty() {
        Err("an empty file".into())
    } else {
        Err("an unrecognised file header".into())
    }
}

/// Scans the pickles before they are read. Refuses pickles that name dangerous Python functions, that would take far
/// more memory than weights do, or that have no tensors.
fn check_pickles(path: &Path, container: &Container) -> Result<(), String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    match container {
        Container::Zip => {
            let mut archive = ZipArchive::new(file).map_err(|e| format!("a damaged zip archive ({e})"))?;
            bound::entries(&mut archive)?;
            for i in 0..archive.len() {
                let entry = archive.by_index(i).map_err(|e| format!("a damaged zip archive ({e})"))?;
                if entry.name().is_ok_and(|name| name.ends_with("data.pkl")) {
                    check_survey(&survey(&mut BufReader::new(entry))?)?;
                }
            }
            Ok(())
        }
        Container::Stream => {
            let mut file = file;
            for _ in 0..PICKLES {
                check_survey(&survey(&mut file)?)?;
            }
            Ok(())
        }
        Container::Pickle => Err(plain_pickle(file)),
    }
}

/// Refuses a pickle that names a dangerous Python function or would take too much memory.
fn check_survey(survey: &Survey) -> Result<(), String> {
    if let Some(name) = dangerous(&survey.globals) {
        return Err(format!(
            "a pickle that refers to {name}, which could run code when Python loads the file and which weights do not \
             need (nothing was executed here)"
        ));
    }
    if survey.too_large {
        return Err("a pickle that would take far more memory than the names and shapes of weights need".into());
    }
    Ok(())
}

/// Describes the content of a pickle that is not in one of torch's containers.
fn plain_pickle(mut file: impl BufRead) -> String {
    let survey = match survey(&mut file) {
        Ok(survey) => survey,
        Err(e) => return e,
    };
    if let Err(e) = check_survey(&Survey { too_large: false, globals: survey.globals.clone() }) {
        return e;
    }
    if survey.globals.iter().any(|name| name.starts_with("numpy.")) {
        return "a pickle of numpy arrays, as in Detectron2's model zoo (.pkl), while foveal reads torch tensors; \
                convert it in Python: d = pickle.load(open(FILE, \"rb\"), encoding=\"latin1\"); torch.save({k: \
                torch.as_tensor(v) for k, v in d.get(\"model\", d).items()}, \"weights.pth\")"
            .into();
    }
    let names: Vec<&str> = survey.globals.iter().map(String::as_str).collect();
    match names.as_slice() {
        [] => "a pickle without tensors".into(),
        names => excerpt(format!("a pickle without tensors that names {}", names.join(", "))),
    }
}

/// The Python type of a value.
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
