//! The `eval` command.

mod common;
mod judge;
mod sweep;
mod tasks;
mod trace;
