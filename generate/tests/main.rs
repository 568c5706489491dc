//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engines;
#[path = "../../crates/reference/tests/nano/mod.rs"]
mod nano;
mod nano_sort;
#[path = "../../crates/reference/tests/test_data/mod.rs"]
mod test_data;
mod tiny;
mod tokenizers;
