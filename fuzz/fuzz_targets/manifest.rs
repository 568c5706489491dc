//! Any bytes: refused, or a manifest that reads the same again. The same function is a property
//! test of `fragment`.
#![no_main]

#[path = "../../fragment/tests/common/invariant.rs"]
mod invariant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariant::check(bytes));
