//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod common;
mod conformance;
mod fetch;
mod filter;
mod kinds;
mod older_files;
mod records;
mod token_file;
mod tokenizer;
mod typed;
