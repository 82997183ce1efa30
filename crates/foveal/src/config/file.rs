//! Configuration files, and the files that they extend.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use foveal_base::{excerpt, names, text::read_text};
use toml::{Table, Value};

use super::layer::{self, Layer, Origin};
use crate::console::note;

/// The key of a configuration file that names the file below it.
pub(crate) const EXTENDS: &str = "extends";

/// Files and folders of which a folder of a run has at least one.
const OF_A_RUN: [&str; 4] = ["checkpoints", "environment.json", "log.jsonl", "state"];

/// Reads a configuration file and the files that it extends. Returns a layer for each, the lowest first.
///
/// The key `extends` at the top of a file names another configuration file, whose values hold where the file sets none.
/// Relative paths in a file, that of `extends` too, are relative to its folder. The key `name` is that of the first
/// file, not of those that it extends; without it, the name is that of the file.
///
/// # Errors
/// If a file cannot be read, is not valid TOML, or extends itself through others; the error names the file.
pub(crate) fn layers(path: &Path) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut chain: Vec<PathBuf> = Vec::new();
    let stored = is_stored(path);
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        refuse_circle(&chain, &path)?;
        let table = read(&path);
        let mut table = match chain.last() {
            Some(above) => table.with_context(|| format!("{}: {EXTENDS}", above.display()))?,
            None => table?,
        };
        if stored {
            drop_command(&mut table, &path);
        }
        next = base(&mut table, &path)?;
        layer::resolve_paths(&mut table, folder_of(&path));
        if chain.is_empty()
            && !table.contains_key("name")
            && let Some(stem) = path.file_stem()
        {
            let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
            let name: String = stem.to_string_lossy().chars().map(plain).collect();
            table.insert("name".to_owned(), Value::String(name));
        }
        layers.push(Layer { origin: Origin::File(path.clone()), table });
        chain.push(path);
    }
    layers.reverse();
    Ok(layers)
}

/// Reads a file as a TOML table.
fn read(path: &Path) -> Result<Table> {
    let text =
        read_text(path).with_context(|| format!("cannot read the configuration {}{}", path.display(), near(path)))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        anyhow!("{}:{line}: invalid TOML: {}", path.display(), excerpt(error.message().replace('\n', " ")))
    })
}

/// Takes the key `extends` out of the table of a file, and returns the path that it stands for.
///
/// # Errors
/// If its value is not a path; the error names the file.
fn base(table: &mut Table, path: &Path) -> Result<Option<PathBuf>> {
    match table.remove(EXTENDS) {
        None => Ok(None),
        Some(Value::String(base)) if !base.is_empty() => Ok(Some(folder_of(path).join(base))),
        Some(other) => bail!(
            "{}: {EXTENDS}: expected the path of one configuration file, found {}",
            path.display(),
            excerpt(other.to_string())
        ),
    }
}

/// Checks that the files of a chain do not extend each other in a circle, which `path` would close.
///
/// # Errors
/// If they do; the error lists the files of the circle.
fn refuse_circle(chain: &[PathBuf], path: &Path) -> Result<()> {
    let same = |other: &PathBuf| match (other.canonicalize(), path.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    let (Some(first), Some(last)) = (chain.iter().position(same), chain.last()) else { return Ok(()) };
    let circle: Vec<String> = chain[first..].iter().map(|file| file.display().to_string()).collect();
    bail!(
        "{}: {EXTENDS}: expected files that do not extend each other in a circle, found {} -> {}; remove the key from \
         one of them",
        last.display(),
        circle.join(" -> "),
        path.display()
    )
}

/// Whether a file is the configuration that a run has saved in its folder.
fn is_stored(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let of_a_run = || OF_A_RUN.iter().any(|file| folder_of(path).join(file).exists());
    name.starts_with("config") && name.ends_with(".toml") && of_a_run()
}

/// Removes the command of `train.on_epoch` from the configuration of a saved run, or from a file that it extends, with
/// a warning. foveal never writes it there, so that someone else has, and a folder that was received from others must
/// not start programs.
fn drop_command(table: &mut Table, path: &Path) {
    if let Some(train) = table.get_mut("train").and_then(Value::as_table_mut)
        && train.remove("on_epoch").is_some()
    {
        note!(
            "warning: {}: train.on_epoch is left out, because this configuration belongs to a saved run; pass the command \
             with --set",
            path.display()
        );
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The end of a message about a file that does not exist: a path that may have been meant.
fn near(path: &Path) -> String {
    let hint = if path.exists() { None } else { names::hint(path) };
    hint.map_or_else(String::new, |hint| format!(" ({hint})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, load, open, with_sets};

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_file_overrides_the_files_that_it_extends() {
        let dir = folder(&[
            ("mine.toml", "extends = \"common/base.toml\"\n[train]\nlr = 0.5\n[data.train]\nimages = \"pics\""),
            (
                "common/base.toml",
                "extends = \"../root.toml\"\nname = \"base\"\n[train]\nlr = 0.25\nepochs = 3\n[data.train]\n\
                 images = \"other\"\nannotations = \"a.json\"\n[model]\nweights = \"w.pth\"",
            ),
            ("root.toml", "[train]\nepochs = 9\nseed = 4\nmilestones = [1, 2]\n[data.val]\nimages = \"val\""),
            ("val/1.png", ""),
        ]);
        let file = dir.path().join("mine.toml");
        let Loaded { config, files } = open(Some(&file), &["train.lr=2".to_owned()]).unwrap();
        assert_eq!((config.train.lr, config.train.epochs, config.train.seed), (2.0, 3, 4));
        assert_eq!(config.train.milestones, [1.0, 2.0]);
        // The name of a file below does not count.
        assert_eq!(config.name, "mine");
        // Paths are relative to the file that contains them.
        assert_eq!(config.data.train.images, Some(dir.path().join("pics")));
        assert_eq!(config.data.train.annotations, Some(dir.path().join("common/a.json")));
        assert_eq!(config.model.weights, Some(dir.path().join("common/w.pth")));
        assert_eq!(config.data.val.images, Some(dir.path().join("val")));
        let names: Vec<_> = files.iter().map(|file| file.canonicalize().unwrap()).collect();
        let wanted = ["root.toml", "common/base.toml", "mine.toml"].map(|n| dir.path().join(n).canonicalize().unwrap());
        assert_eq!(names, wanted);
        // The same values in one file give the same configuration, whatever it extends.
        let whole = dir.path().join("whole.toml");
        std::fs::write(&whole, crate::config::to_toml(&config).unwrap()).unwrap();
        assert_eq!(load(Some(&whole), &[]).unwrap(), config);
    }

    #[test]
    fn errors_name_the_file_whose_value_is_wrong() {
        let error = |files: &[(&str, &str)]| {
            let dir = folder(files);
            let text = format!("{:#}", load(Some(&dir.path().join("a.toml")), &[]).unwrap_err());
            text.replace(&format!("{}/", dir.path().display()), "")
        };
        let a = ("a.toml", "extends = \"b.toml\"\ntrain.epochs = 2");
        let starts = |text: String, start: &str| assert!(text.starts_with(start), "{text}");
        starts(error(&[a, ("b.toml", "train.lr = -1.0")]), "b.toml: train.lr: expected ");
        starts(error(&[a, ("b.toml", "train.lr = \"x\"")]), "b.toml: train.lr: ");
        starts(error(&[a, ("b.toml", "train.epoch = 1")]), "b.toml: unknown key `train.epoch`");
        starts(error(&[a, ("b.toml", "\ntrain = [")]), "a.toml: extends: b.toml:2: invalid TOML");
        starts(error(&[a]), "a.toml: extends: cannot read the configuration b.toml");
        // The value of the file above counts, and so does its error.
        starts(
            error(&[("a.toml", "extends = \"b.toml\"\ntrain.lr = -2"), ("b.toml", "train.lr = 1")]),
            "a.toml: train.lr",
        );
        for wrong in ["7", "\"\"", "[\"b.toml\"]"] {
            let text = error(&[("a.toml", &format!("extends = {wrong}"))]);
            assert!(text.starts_with("a.toml: extends: expected the path") && text.ends_with(wrong), "{text}");
        }
        // Only the top of a file has the key.
        let text = error(&[("a.toml", "[train]\nextends = \"b.toml\"")]);
        assert!(text.starts_with("a.toml: unknown key `train.extends`"), "{text}");
    }

    #[test]
    fn circles_are_refused_with_their_files() {
        let dir = folder(&[
            ("start.toml", "extends = \"a.toml\""),
            ("a.toml", "extends = \"deep/b.toml\""),
            ("deep/b.toml", "extends = \"../a.toml\""),
            ("own.toml", "extends = \"./own.toml\""),
        ]);
        let error = |name: &str| format!("{:#}", load(Some(&dir.path().join(name)), &[]).unwrap_err());
        let place = dir.path().display();
        let circle = format!("{place}/a.toml -> {place}/deep/b.toml -> {place}/deep/../a.toml");
        let text = error("start.toml");
        assert!(text.starts_with(&format!("{place}/deep/b.toml: extends: ")) && text.contains(&circle), "{text}");
        assert!(error("own.toml").contains(&format!("found {place}/own.toml -> {place}/./own.toml")));
    }

    #[test]
    fn only_files_extend_files() {
        let text = format!("{:#}", with_sets(Vec::new(), &["extends=a.toml".to_owned()]).unwrap_err());
        assert!(text.starts_with("--set extends=a.toml: `extends` ") && text.contains("configuration file"), "{text}");
        let table: Table = toml::from_str("extends = \"a.toml\"").unwrap();
        let text = format!("{:#}", Layer::of_arm("x", table, Path::new("")).unwrap_err());
        assert!(text.starts_with("arm x: `extends` "), "{text}");
    }
}
