//! The command of `train.on_epoch`.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs a command through the shell, with a JSON object and a line break on its standard input, and waits for it. What
/// it prints to stdout goes to stderr, because stdout is that of foveal.
///
/// # Errors
/// How it failed, as the end of a sentence that begins with the command.
pub(super) fn run(command: &str, json: &Value) -> Result<(), String> {
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command);
    let spawned = shell.stdin(Stdio::piped()).stdout(io::stderr()).spawn();
    let mut child = spawned.map_err(|error| format!("could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command may end without reading all of it.
        let _ = writeln!(stdin, "{json}");
    }
    let status = child.wait().map_err(|error| format!("could not be waited for: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("failed with {status}")) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_gets_the_json_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let json = json!({"epoch": {"epoch": 1}});
        run(&format!("cat > '{}'", path.display()), &json).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"epoch\":{\"epoch\":1}}\n");
        let error = run("exit 3", &json).unwrap_err();
        assert!(error.starts_with("failed with ") && error.contains('3'), "{error}");
        // A command that reads nothing does not stop the run, however long the object is.
        let long = Value::from("x".repeat(1 << 20));
        assert_eq!(run("exec true", &long), Ok(()));
    }
}
