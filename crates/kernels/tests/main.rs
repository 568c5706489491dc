//! The tests of this crate from outside, as one program: it links once.

mod distillation;
