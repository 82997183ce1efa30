//! The environment variable `FOVEAL_ISA`, with which the tests of all crates run on a chosen instruction set.
use std::process::{Command, Stdio};

use foveal_kernels::instruction_set;

/// Whether this test succeeds in a process whose `FOVEAL_ISA` is `name`.
fn succeeds_with(name: &str) -> bool {
    let mut child = Command::new(std::env::current_exe().expect("the path of this program"));
    child.args(["--exact", "the_environment_selects_the_instruction_set"]).env("FOVEAL_ISA", name);
    child.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("this program starts").success()
}

#[test]
fn the_environment_selects_the_instruction_set() {
    match std::env::var("FOVEAL_ISA") {
        Ok(name) => assert_eq!(instruction_set().to_lowercase().replace('-', ""), name),
        Err(_) => {
            assert!(succeeds_with("portable"));
            assert!(!succeeds_with("sse9"), "an instruction set that no processor has is refused");
        }
    }
}
