//! The `pocketgpt` command.

fn main() {}
