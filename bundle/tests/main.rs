//! The tests of this crate from outside, as one program: it links once.

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
