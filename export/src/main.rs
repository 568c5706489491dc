//! The `export` command.

fn main() {}
