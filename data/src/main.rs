//! The `data` command.

fn main() {}
