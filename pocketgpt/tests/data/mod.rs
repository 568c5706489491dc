//! The `data` command.

mod command;
