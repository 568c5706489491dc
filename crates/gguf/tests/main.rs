//! The tests of this crate from outside, as one program: it links once.

mod common;
mod errors;
mod golden;
mod grid;
mod matrices;
mod oracle;
mod parts;
mod properties;
mod raw_files;
