//! The `fragment` command.

#[path = "../../../fragment/tests/common/mod.rs"]
mod common;
mod kill;
