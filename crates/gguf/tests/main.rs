//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod errors;
mod golden;
mod grid;
mod matrices;
mod oracle;
mod parts;
mod properties;
mod raw_files;
