//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blockwise;
mod experts;
mod golden;
mod nano;
mod nano_sort;
mod properties;
mod random_weights;
mod stories;
mod test_data;
