//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod experts;
mod families;
mod folder;
mod foreign;
mod gguf_view;
mod lora;
mod mlx;
#[path = "common/pickle_invariant.rs"]
mod pickle_invariant;
mod torch;
