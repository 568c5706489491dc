//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod damage;
#[path = "common/invariant.rs"]
mod invariant;
mod manifest;
mod mirrors;
mod parts;
mod round_trip;
#[cfg(feature = "network")]
mod sources;
