//! The tests of this crate from outside, as one program: it links once.

#[path = "tiny/alphabet.rs"]
mod alphabet;
mod engines;
#[path = "../../crates/reference/tests/nano/mod.rs"]
mod nano;
mod nano_sort;
#[path = "../../crates/reference/tests/test_data/mod.rs"]
mod test_data;
mod tiny;
mod tokenizers;
