//! Where a run was trained: `environment.json` in its folder, with an entry for each start of `foveal train`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::ON_EPOCH;
use crate::output;

/// The name of the file in the run's folder.
const FILE: &str = "environment.json";
/// What stands for a value that is not kept.
const LEFT_OUT: &str = "(left out)";

/// The content of `environment.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The starts of the run, the first one first; a resumed run has several.
    pub(crate) starts: Vec<StartRecord>,
}

/// One start of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StartRecord {
    /// Time of the start, in seconds since the beginning of 1970, UTC.
    pub(crate) unix_time: u64,
    /// The command line, with the name of the program and without the command of `train.on_epoch`, which can contain a
    /// password.
    pub(crate) command: Vec<String>,
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// Version of foveal.
    pub(crate) version: String,
    /// The device.
    pub(crate) device: String,
    /// Number of computation threads.
    pub(crate) threads: usize,
    /// Operating system and architecture of the processor.
    pub(crate) system: String,
}

impl StartRecord {
    /// The start of this process on a device.
    pub(crate) fn now(device: &str) -> Self {
        Self {
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            command: std::env::args_os().map(|argument| without_command(&argument.to_string_lossy())).collect(),
            folder: std::env::current_dir().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.to_owned(),
            threads: rayon::current_num_threads(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// An argument, in which the value of `train.on_epoch` is replaced.
fn without_command(argument: &str) -> String {
    match argument.split_once('=') {
        Some(("--set", rest)) => format!("--set={}", without_command(rest)),
        Some((key, value)) if key == ON_EPOCH || value.contains("on_epoch") => format!("{key}={LEFT_OUT}"),
        _ => argument.to_owned(),
    }
}

impl Environment {
    /// Reads the file of a run. A run of an earlier version has none, which is an environment without starts.
    ///
    /// # Errors
    /// If the file exists and cannot be read, or is not the JSON that foveal writes.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            bytes => {
                let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&bytes)
                    .with_context(|| format!("{}: expected the JSON of a run", path.display()))
            }
        }
    }

    /// Adds a start to the file of a run.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn add(root: &Path, start: StartRecord) -> Result<()> {
        let mut all = Self::read(root)?;
        all.starts.push(start);
        let text = serde_json::to_string_pretty(&all)?;
        output::write_file(&root.join(FILE), (text + "\n").as_bytes())
    }
}

/// A time in seconds since 1970 as `2026-11-26 16:21:40 UTC`. The days are those of Howard Hinnant's `civil_from_days`.
pub(super) fn date(unix_time: u64) -> String {
    let (days, seconds) = ((unix_time / 86_400) as i64, unix_time % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_seconds() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_767_225_600), "2026-01-01 00:00:00 UTC");
    }

    #[test]
    fn commands_are_not_kept() {
        let kept = [
            ("train.on_epoch=curl -H 'Token: x=y'", "train.on_epoch=(left out)"),
            ("--set=train.on_epoch=a", "--set=train.on_epoch=(left out)"),
            ("train={on_epoch=\"a\"}", "train=(left out)"),
            ("--set=train.lr=1", "--set=train.lr=1"),
            ("run", "run"),
        ];
        for (argument, expected) in kept {
            assert_eq!(without_command(argument), expected);
        }
    }

    #[test]
    fn each_start_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Environment::read(dir.path()).unwrap().starts.is_empty());
        for device in ["flex", "wgpu:0"] {
            Environment::add(dir.path(), StartRecord::now(device)).unwrap();
        }
        let starts = Environment::read(dir.path()).unwrap().starts;
        assert_eq!([&starts[0].device, &starts[1].device], ["flex", "wgpu:0"]);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(format!("{:#}", Environment::read(dir.path()).unwrap_err()).contains(FILE));
    }
}
