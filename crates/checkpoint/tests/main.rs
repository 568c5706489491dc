//! The tests of this crate from outside, as one program: it links once.

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
