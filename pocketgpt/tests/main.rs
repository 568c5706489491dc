//! Tests of the program: its commands, what they print, and what a kill leaves behind.
//! The tests of a crate's functions stand in the crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod book;
mod bundle;
mod data;
mod dependencies;
mod eval;
mod export;
mod fragment;
mod generate;
mod links;
mod notices;
mod program;
mod quantize;
mod run;
mod shell;
mod special_files;
mod test_files;
mod train;
