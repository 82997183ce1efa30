//! Arms: the variants of a configuration that a lab compares.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_base::{excerpt, text::read_text};
use foveal_train::RunConfig;
use serde::Deserialize;
use toml::Table;

use crate::config::{self, Layer};
use crate::failure::Usage;

/// The built-in sets of arms: name and TOML text.
const SETS: [(&str, &str); 8] = [
    ("table1", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/table1.toml"))),
    ("gamma", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/gamma.toml"))),
    ("alpha", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/alpha.toml"))),
    ("rare-classes", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/rare-classes.toml"))),
    ("pi", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/pi.toml"))),
    ("assign", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/assign.toml"))),
    ("augment", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/augment.toml"))),
    ("recipe", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/arms/recipe.toml"))),
];

/// A set of arms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArmSet {
    /// What the set compares, in one line.
    pub about: String,
    /// Name of the arm that the others are compared with.
    pub reference: String,
    /// The arms, in the order of the report.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
    /// Name of the set, for titles and folders.
    #[serde(skip)]
    pub name: String,
}

/// One variant of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arm {
    /// Name of the arm, of its folder and in the JSON result.
    pub name: String,
    /// Title in tables and charts.
    pub title: String,
    /// The configuration values that the arm changes.
    pub config: Table,
}

impl ArmSet {
    /// Loads a built-in set or a TOML file, and keeps the arms `only` if any are given.
    ///
    /// # Errors
    /// [`Usage`] if `set` is neither the name of a built-in set nor a file, or an arm of `only` does not exist; another
    /// error if the file is not a valid set of arms.
    pub(super) fn load(set: &str, only: &[String]) -> Result<Self> {
        let path = Path::new(set);
        let (text, name) = match SETS.iter().find(|(name, _)| *name == set) {
            Some((name, text)) => ((*text).to_owned(), (*name).to_owned()),
            None if path.is_file() => {
                let text = read_text(path).with_context(|| format!("cannot read the arms {set}"))?;
                (text, path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
            }
            None => {
                let names = SETS.map(|(name, _)| name).join(", ");
                return Err(Usage(format!("--arms {set}: expected a file or one of {names}")).into());
            }
        };
        let mut arms = Self::parse(&text, &name).with_context(|| format!("cannot use the arms {set}"))?;
        if !only.is_empty() {
            arms.select(only)?;
        }
        Ok(arms)
    }

    fn parse(text: &str, name: &str) -> Result<Self> {
        let mut set: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            anyhow::anyhow!("line {line}: {}", excerpt(error.message().replace('\n', " ")))
        })?;
        set.name = name.to_owned();
        if set.arms.is_empty() {
            bail!("expected at least one [[arm]]");
        }
        let mut names = HashSet::new();
        for arm in &set.arms {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if arm.name.is_empty() || arm.name.starts_with('.') || !arm.name.chars().all(plain) {
                bail!(
                    "name = {:?}: expected letters, digits, '-', '_' and '.' (it is also the name of a folder)",
                    arm.name
                );
            }
            if !names.insert(&arm.name) {
                bail!("two arms have the name {}", arm.name);
            }
        }
        if !names.contains(&set.reference) {
            bail!("reference = {:?}: expected the name of an arm", set.reference);
        }
        Ok(set)
    }

    /// Keeps only the arms with these names. If the reference arm is not among them, the last one becomes the
    /// reference.
    ///
    /// # Errors
    /// [`Usage`] if an arm does not exist.
    fn select(&mut self, only: &[String]) -> Result<()> {
        let names: Vec<String> = self.arms.iter().map(|arm| arm.name.clone()).collect();
        if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
            let text = format!("--only {unknown}: unknown arm; the arms of {} are {}", self.name, names.join(", "));
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
    /// The configuration of this arm with a seed: the layers of the configuration file, then `sets`, then the arm.
    /// Relative paths in the arm are relative to `folder`.
    ///
    /// # Errors
    /// If the configuration is invalid; the error names the source of the value, which can be the arm.
    pub(super) fn resolve(&self, file: &[Layer], sets: &[String], folder: &Path, seed: u64) -> Result<RunConfig> {
        let layer = Layer::of_arm(&self.name, self.config.clone(), folder)?;
        let mut config = config::with_arm(file, sets, layer)?;
        config.train.seed = seed;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_set_is_valid_and_its_arms_differ() {
        for (name, _) in SETS {
            let set = ArmSet::load(name, &[]).unwrap();
            assert!(set.arms.len() >= 4, "{name}");
            let configs: Vec<RunConfig> = set
                .arms
                .iter()
                .map(|arm| arm.resolve(&[], &[], Path::new(""), 7).unwrap_or_else(|e| panic!("{name}: {e:#}")))
                .collect();
            for (i, config) in configs.iter().enumerate() {
                assert_eq!(config.train.seed, 7);
                assert!(!configs[..i].contains(config), "{name}: arm {} repeats another", set.arms[i].name);
            }
        }
    }

    #[test]
    fn arms_can_be_selected_and_errors_name_the_mistake() {
        let only = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let set = ArmSet::load("pi", &only(&["pi-0.5", "pi-0.1"])).unwrap();
        assert_eq!((set.arms.len(), set.reference.as_str()), (2, "pi-0.1"));
        let text = ArmSet::load("pi", &only(&["pi-0.2"])).unwrap_err().to_string();
        assert!(text.contains("pi-0.2") && text.contains("pi-0.01"), "{text}");
        assert!(ArmSet::load("table2", &[]).unwrap_err().to_string().contains("table1"));
        let parse = |text: &str| ArmSet::parse(text, "x").unwrap_err().to_string();
        let arm = "[[arm]]\nname = \"a\"\ntitle = \"A\"\nconfig = {}\n";
        let head = "about = \"\"\nreference = \"a\"\n";
        assert!(parse(&format!("{head}{arm}{arm}")).contains("two arms have the name a"));
        assert!(parse(&format!("about = \"\"\nreference = \"b\"\n{arm}")).contains("\"b\""));
        assert!(parse(&format!("{head}{}", arm.replace("\"a\"", "\"../a\""))).contains("../a"));
        assert!(parse(&format!("{head}{arm}colour = 1")).contains("colour"));
    }
}
