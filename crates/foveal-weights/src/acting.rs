//! Detection of pickles that would run code when they are loaded in Python.

use std::collections::BTreeSet;

/// Python modules whose functions start programs, run code or open files.
const DANGEROUS: [&str; 30] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "socket",
    "shutil",
    "pty",
    "runpy",
    "importlib",
    "imp",
    "ctypes",
    "code",
    "codeop",
    "commands",
    "webbrowser",
    "asyncio",
    "multiprocessing",
    "pickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "operator",
    "_operator",
    "builtins",
    "__builtin__",
    "timeit",
    "bdb",
    "pdb",
];
/// Types in the module `builtins`, which are harmless.
const TYPES: [&str; 16] = [
    "set",
    "frozenset",
    "dict",
    "list",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "slice",
    "range",
    "object",
    "unicode",
];

/// The first of the names that refers to a function which could run code when Python loads the file.
pub(crate) fn dangerous(globals: &BTreeSet<String>) -> Option<&str> {
    globals.iter().map(String::as_str).find(|global| {
        let Some((module, name)) = global.split_once('.') else { return false };
        let is_type = ["builtins", "__builtin__"].contains(&module) && TYPES.contains(&name);
        DANGEROUS.contains(&module) && !is_type
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_code() {
        let of = |names: &[&str]| {
            let names = names.iter().map(|n| (*n).to_owned()).collect();
            dangerous(&names).map(str::to_owned)
        };
        let data = [
            "torch._utils._rebuild_tensor_v2",
            "collections.OrderedDict",
            "argparse.Namespace",
            "builtins.set",
            "numpy.core.multiarray.scalar",
            "pathlib.PosixPath",
            "_codecs.encode",
            "osgeo.x",
        ];
        assert_eq!(of(&data), None);
        for name in ["os.system", "builtins.eval", "__builtin__.getattr", "importlib.import_module", "os.path.join"] {
            assert_eq!(of(&[name]).as_deref(), Some(name));
        }
    }
}
