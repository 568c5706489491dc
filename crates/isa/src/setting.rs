//! The environment variable that limits which instructions are used.

use std::ffi::OsStr;
use std::fmt;
use std::sync::LazyLock;

use crate::{Level, detect};

/// Names the highest [`Level`] that may be used ([`Level::name`]); without it, all that the machine
/// has. It is for tests, for measurements and for whoever suspects one of the faster kernels.
pub const VARIABLE: &str = "POCKETGPT_ISA";

/// The variable does not name a level that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsaError {
    /// What it says.
    found: String,
    /// What this machine has.
    available: Vec<Level>,
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = !Level::ALL.iter().any(|level| level.name() == self.found);
        let what = if unknown { "unknown" } else { "not on this machine" };
        let names: Vec<&str> = self.available.iter().map(|level| level.name()).collect();
        write!(
            f,
            "{VARIABLE} is {:?}, which is {what}: expected one of {}, or unset it",
            self.found,
            names.join(", ")
        )
    }
}

impl std::error::Error for IsaError {}

/// Checks the variable, so that a program can refuse it before it computes.
///
/// # Errors
/// When it does not name a level that this machine has; the error lists those.
pub fn check() -> Result<(), IsaError> {
    read().map(|_| ())
}

/// The level that the variable names, if it is set.
pub(crate) fn read() -> Result<Option<Level>, IsaError> {
    static SETTING: LazyLock<Result<Option<Level>, IsaError>> = LazyLock::new(|| {
        std::env::var_os(VARIABLE).map(|name| parse(&name, &usable(&name))).transpose()
    });
    SETTING.clone()
}

/// The machine's levels, to choose one by its name. Linux may keep tile registers back, which shows
/// when they are requested.
fn usable(name: &OsStr) -> Vec<Level> {
    let mut levels = detected();
    if name == Level::Amx.name() && !detect::has_amx() {
        levels.retain(|&level| level < Level::Amx);
    }
    levels
}

/// The levels that the processor has; tile registers are not requested from Linux for this.
pub(crate) fn detected() -> Vec<Level> {
    let mut levels = detect::vectors();
    if levels.contains(&Level::Avx512Bf16) && detect::has_amx_bf16() {
        levels.push(Level::Amx);
    }
    levels
}

fn parse(name: &OsStr, available: &[Level]) -> Result<Level, IsaError> {
    available.iter().copied().find(|level| name == level.name()).ok_or_else(|| IsaError {
        found: name.to_string_lossy().into_owned(),
        available: available.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_level_that_the_machine_has() {
        let all = Level::ALL;
        for level in all {
            assert_eq!(parse(level.name().as_ref(), &all), Ok(level));
        }
        let message = |name: &str| parse(name.as_ref(), &all[..2]).unwrap_err().to_string();
        assert_eq!(
            message("amx"),
            "POCKETGPT_ISA is \"amx\", which is not on this machine: expected one of scalar, avx2, \
             or unset it"
        );
        assert!(message("AVX2").contains("which is unknown: expected one of scalar, avx2"));
        assert!(message("").contains("is \"\", which is unknown"));
    }

    #[test]
    fn every_machine_has_the_scalar_level() {
        assert_eq!(detected()[0], Level::Scalar);
        assert!(detected().is_sorted());
    }
}
