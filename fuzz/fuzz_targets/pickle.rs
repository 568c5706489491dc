//! Any bytes: refused, or a pickle whose tensors lie inside of their storages. The same function is
//! a property test of `crates/checkpoint`.
#![no_main]

#[path = "../../crates/checkpoint/tests/common/pickle_invariant.rs"]
mod invariant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariant::check(bytes));
