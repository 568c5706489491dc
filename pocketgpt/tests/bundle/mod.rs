//! The `bundle` command.

#[path = "../../../bundle/tests/common/mod.rs"]
mod common;
mod kill;
mod pack;
mod serve_attack;
mod serve_lan;
