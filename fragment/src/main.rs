//! The `fragment` command.

fn main() {}
