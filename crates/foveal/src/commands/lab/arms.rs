//! The variants that a lab compares.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_train::RunConfig;
use serde::Deserialize;
use toml::Table;

use crate::config::{self, Layer};
use crate::failure::Usage;

/// The sets that come with the program: name and content.
const SETS: [(&str, &str); 5] = [
    ("table1", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/table1.toml"))),
    ("gamma", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/gamma.toml"))),
    ("alpha", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/alpha.toml"))),
    ("rare-classes", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/rare-classes.toml"))),
    ("pi", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/pi.toml"))),
];

/// A set of arms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSet {
    /// What is compared, in a line.
    pub about: String,
    /// The arm that the others are compared with.
    pub reference: String,
    /// In the order of the table.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
    /// The set's name, for titles and folders.
    #[serde(skip)]
    pub name: String,
}

/// One variant of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Folder and key.
    pub name: String,
    /// For people.
    pub title: String,
    /// The keys that it changes.
    pub config: Table,
}

impl ArmSet {
    /// A set that comes with the program, or a file of that kind.
    ///
    /// # Errors
    /// [`Usage`] for a name that is neither, or an arm of `only` that there is not; a file that is no such set.
    pub fn load(set: &str, only: &[String]) -> Result<Self> {
        let path = Path::new(set);
        let (text, name) = match SETS.iter().find(|(name, _)| *name == set) {
            Some((name, text)) => ((*text).to_owned(), (*name).to_owned()),
            None if path.is_file() => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the arms {set}"))?;
                (text, path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
            }
            None => {
                let names = SETS.map(|(name, _)| name).join(", ");
                return Err(Usage(format!("--arms {set}: neither a file nor one of {names}")).into());
            }
        };
        let mut arms = Self::parse(&text, &name).with_context(|| format!("the arms {set}"))?;
        if !only.is_empty() {
            arms.select(only)?;
        }
        Ok(arms)
    }

    fn parse(text: &str, name: &str) -> Result<Self> {
        let mut set: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        set.name = name.to_owned();
        if set.arms.is_empty() {
            bail!("expected at least one [[arm]]");
        }
        let mut names = HashSet::new();
        for arm in &set.arms {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if arm.name.is_empty() || arm.name.starts_with('.') || !arm.name.chars().all(plain) {
                bail!("name = {:?}: expected letters, digits, '-', '_' and '.' (it becomes a folder)", arm.name);
            }
            if !names.insert(&arm.name) {
                bail!("two arms are called {}", arm.name);
            }
        }
        if !names.contains(&set.reference) {
            bail!("reference = {:?}: no arm of that name", set.reference);
        }
        Ok(set)
    }

    /// Keeps the arms of these names; without the reference, the last of them takes its place.
    fn select(&mut self, only: &[String]) -> Result<()> {
        let names: Vec<String> = self.arms.iter().map(|arm| arm.name.clone()).collect();
        if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
            let text = format!("--only {unknown}: the arms of {} are {}", self.name, names.join(", "));
            return Err(Usage(text).into());
        }
        self.arms.retain(|arm| only.contains(&arm.name));
        if let Some(last) = self.arms.last()
            && !only.contains(&self.reference)
        {
            self.reference.clone_from(&last.name);
        }
        Ok(())
    }
}

impl Arm {
    /// The configuration of this arm with a seed.
    ///
    /// # Errors
    /// As of any configuration, naming the arm where the value is its own.
    pub fn resolve(&self, file: &Path, sets: &[String], folder: &Path, seed: u64) -> Result<RunConfig> {
        let layer = Layer::of_arm(&self.name, self.config.clone(), folder);
        let mut config = config::with_arm(file, sets, layer)?;
        config.train.seed = seed;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_set_fits_every_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("empty.toml");
        std::fs::write(&file, "").unwrap();
        for (name, _) in SETS {
            let set = ArmSet::load(name, &[]).unwrap();
            assert!(set.arms.len() >= 4, "{name}");
            let configs: Vec<RunConfig> = set
                .arms
                .iter()
                .map(|arm| arm.resolve(&file, &[], Path::new(""), 7).unwrap_or_else(|e| panic!("{name}: {e:#}")))
                .collect();
            for (i, config) in configs.iter().enumerate() {
                assert_eq!(config.train.seed, 7);
                assert!(!configs[..i].contains(config), "{name}: arm {} repeats another", set.arms[i].name);
            }
        }
    }

    #[test]
    fn selections_and_mistakes_are_named() {
        let only = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let set = ArmSet::load("pi", &only(&["pi-0.5", "pi-0.1"])).unwrap();
        assert_eq!((set.arms.len(), set.reference.as_str()), (2, "pi-0.1"));
        let text = ArmSet::load("pi", &only(&["pi-0.2"])).unwrap_err().to_string();
        assert!(text.contains("pi-0.2") && text.contains("pi-0.01"), "{text}");
        assert!(ArmSet::load("table2", &[]).unwrap_err().to_string().contains("table1"));
        let parse = |text: &str| ArmSet::parse(text, "x").unwrap_err().to_string();
        let arm = "[[arm]]\nname = \"a\"\ntitle = \"A\"\nconfig = {}\n";
        let head = "about = \"\"\nreference = \"a\"\n";
        assert!(parse(&format!("{head}{arm}{arm}")).contains("two arms are called a"));
        assert!(parse(&format!("about = \"\"\nreference = \"b\"\n{arm}")).contains("\"b\""));
        assert!(parse(&format!("{head}{}", arm.replace("\"a\"", "\"../a\""))).contains("../a"));
        assert!(parse(&format!("{head}{arm}colour = 1")).contains("colour"));
    }
}
