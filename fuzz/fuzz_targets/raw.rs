//! Any bytes: refused, or a header; and the same one that the strict reader finds, where it does.
//! The same function is a property test of `crates/gguf`.
#![no_main]
#![allow(dead_code, reason = "each target checks its own invariant")]

#[path = "../../crates/gguf/tests/common/invariant.rs"]
mod invariant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariant::check_raw(bytes));
