//! `foveal completions`: prints a completion script for a shell.

use anyhow::Result;

use crate::args::CompletionsArgs;
use crate::examples;
use crate::failure::DONE;
use crate::output;

/// Prints the script to stdout.
///
/// # Errors
/// If stdout cannot be written.
pub(super) fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut examples::command(), "foveal", &mut script);
    output::print_exact(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use clap_complete::Shell;

    #[test]
    fn every_shell_has_a_script_with_all_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut examples::command(), "foveal", &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in ["train", "convert", "doctor", "allow-changes"] {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}
