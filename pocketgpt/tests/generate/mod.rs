//! The `generate` command.

mod chat;
mod command;
#[path = "../../../generate/tests/tiny/mod.rs"]
mod tiny;
