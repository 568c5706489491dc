//! The `generate` command.

fn main() {}
