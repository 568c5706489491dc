//! The tests of this crate from outside, as one program: it links once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod common;
mod devices;
mod families;
mod foreign_tokenizers;
mod learning;
mod qat;
mod refusals;
mod several_devices;

/// As in the program: some of these tests say how much memory a run takes.
#[global_allocator]
static ALLOCATOR: train::PageAllocator = train::PageAllocator;
