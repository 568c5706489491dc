//! Shared by all commands: exit codes, one-line errors, Ctrl-C, progress, memory and the log.
//!
//! Data goes to stdout; everything else goes to stderr, so that every command can be piped.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a gate failed: the message says which, and by how much |
//! | 2 | wrong usage, bad input, or the operating system refused |
//! | 130 | stopped by Ctrl-C, after everything worth keeping was written |
//! | 131 | stopped at once by a second Ctrl-C |

mod environment;
mod interrupt;
mod log;
pub mod memory;
mod progress;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;

pub use environment::parse;
pub use interrupt::Interrupt;
pub use log::Verbosity;
pub use progress::{Meter, Progress, note};
pub use units::{bytes, count, parse_bytes, seconds};

/// A measured value is beyond its limit. Ends the process with exit code 1.
#[derive(Debug)]
pub struct GateFailed {
    /// One line for each gate, with the value, the limit and by how much it was missed.
    pub missed: Vec<String>,
}

impl std::fmt::Display for GateFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gate failed: {}", self.missed.join("; "))
    }
}

impl std::error::Error for GateFailed {}

/// The user stopped the process, and the work so far is saved. Exit code 130.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted; run the command again without --force to go on")
    }
}

impl std::error::Error for Interrupted {}

/// Where a stage's settings come from.
#[derive(Debug, Clone, clap::Args)]
pub struct RunFileArgs {
    /// The run file (TOML); it names the text, the model and the run folder.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Override one value of the run file; may be repeated [default: none].
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Runs a command, prints its error as one line and picks the exit code.
pub fn main(run: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            exit_code(&error)
        }
    }
}

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<GateFailed>().is_some() {
        ExitCode::from(1)
    } else if error.downcast_ref::<Interrupted>().is_some() {
        ExitCode::from(130)
    } else {
        ExitCode::from(2)
    }
}

/// The chain of causes, outermost first; a cause that its parent's text already contains is left
/// out. Control characters, which can come from a damaged file, are replaced by spaces.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace(char::is_control, " ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// `pocketgpt ... | head` closes our stdout; this is not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Writes a report to stdout: JSON with `--json`, otherwise its table.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_report<R>(report: &R, json: bool) -> anyhow::Result<()>
where
    R: serde::Serialize + std::fmt::Display,
{
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if json {
        let text = serde_json::to_string_pretty(report)?;
        writeln!(out, "{text}")?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}

/// Prints a report and returns the verdict on it, also if the reader of stdout has closed it.
///
/// # Errors
/// The error of the verdict, otherwise as [`print_report`].
pub fn print_judged<R>(report: &R, json: bool, verdict: anyhow::Result<()>) -> anyhow::Result<()>
where
    R: serde::Serialize + std::fmt::Display,
{
    let printed = print_report(report, json);
    verdict?;
    printed
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_that_was_already_said_is_not_repeated() {
        let inner = std::io::Error::other("disk full");
        let error = anyhow::Error::new(inner).context("cannot write a.gguf: disk full");
        assert_eq!(one_line(&error), "cannot write a.gguf: disk full");
    }

    #[test]
    fn what_a_file_brings_in_cannot_steer_a_terminal() {
        let error = anyhow::anyhow!("tensor \x1b[31mred\nline");
        assert_eq!(one_line(&error), "tensor  [31mred line");
    }

    #[test]
    fn a_gate_keeps_its_exit_code_under_context() {
        let gate = GateFailed { missed: vec!["mean KL 0.2 > 0.1".into()] };
        let error = Err::<(), _>(anyhow::Error::new(gate)).context("eval").unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::from(1));
    }
}
