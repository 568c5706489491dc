//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod documents;
mod families;
mod gpt2;
mod nano_sort;
#[path = "../../reference/tests/random_weights/mod.rs"]
mod random_weights;
mod stories260k;
