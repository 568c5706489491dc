//! Weights and state on disk.
//!
//! A checkpoint is a folder that `transformers` loads as it is, plus what training needs to go
//! on. Everything that any stage writes goes through [`atomic`], so that a reader finds the old
//! output or the new one and never a half, and [`hash`] says which of the two it has.

pub mod atomic;
pub mod hash;
