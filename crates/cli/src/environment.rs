//! What the environment sets, for every command: said at the end of the help, checked before a
//! command runs.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

/// Shown below the help of the program.
const HELP: &str = "\
Environment:
  POCKETGPT_CACHE=DIR Where models from addresses are kept [default: pocketgpt/fragments in the cache
                      folder of this user]
  POCKETGPT_CACHE_SIZE=SIZE
                      How much is kept there, what was used longest ago goes first [default: 20GB]
  POCKETGPT_ISA=NAME  The highest instruction set to compute with: scalar, avx2, avx512, avx512bf16
                      or amx [default: the highest of this machine]
  RUST_LOG=LEVEL      What is logged: error, warn, info, debug or trace [default: warn]";

/// Reads the arguments of the program; a request for help is answered, and a mistake explained,
/// right here, which ends the process.
///
/// # Errors
/// When a variable of the environment has a value that it cannot have.
pub fn parse<Program: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<Program> {
    let mut command = Program::command().after_help(HELP);
    let program = command
        .try_get_matches_from_mut(arguments)
        .and_then(|mut matches| Program::from_arg_matches_mut(&mut matches))
        .unwrap_or_else(|error| error.format(&mut command).exit());
    isa::check()?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_the_variable_and_every_instruction_set() {
        let (_, rest) = HELP.split_once(isa::VARIABLE).unwrap();
        let text = rest.split("[default").next().unwrap();
        let names = isa::Level::ALL.map(isa::Level::name);
        for name in names {
            let mut words = text.split(|c: char| !c.is_alphanumeric());
            assert!(words.any(|word| word == name), "{name}: {text}");
        }
    }
}
