//! The `data` command.

mod command;
mod kill;
