//! The tests of this crate from outside, as one program: it links once.

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
