//! The program under test.

use std::process::Command;

/// Where Cargo put it.
pub const PATH: &str = env!("CARGO_BIN_EXE_pocketgpt");

/// `pocketgpt`, without arguments.
pub fn command() -> Command {
    Command::new(PATH)
}

/// `pocketgpt STAGE`.
pub fn stage(stage: &str) -> Command {
    let mut command = command();
    command.arg(stage);
    command
}
