//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod damage;
mod families;
mod limits;
mod pack;
mod plan;
mod run_folder;
mod serve;
mod signature;
#[path = "../../generate/tests/tiny/mod.rs"]
mod tiny;
