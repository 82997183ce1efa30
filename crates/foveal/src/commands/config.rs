//! `foveal config`: prints the configuration.

use anyhow::Result;
use foveal_train::RunConfig;

use crate::args::{Common, ConfigArgs};
use crate::config::{self, EXTENDS, ON_EPOCH, PATH_KEYS};
use crate::failure::DONE;
use crate::output;

/// Prints the resolved configuration, the defaults of all keys, or the JSON schema.
///
/// # Errors
/// If the configuration cannot be used.
pub(super) fn run(args: &ConfigArgs, common: &Common) -> Result<u8> {
    if args.schema {
        output::write_json("-".as_ref(), &config::schema())?;
    } else if args.defaults {
        let keys = std::iter::once(EXTENDS).chain(PATH_KEYS).chain([ON_EPOCH]);
        let unset: String = keys.map(|key| format!("# {key} = \"…\"\n")).collect();
        let text = config::to_toml(&RunConfig::default())?;
        output::print_exact(&format!("# Keys without a default:\n{unset}\n{text}"))?;
    } else {
        output::print_exact(&config::to_toml(&config::load(args.config.as_deref(), &common.set)?)?)?;
    }
    Ok(DONE)
}
