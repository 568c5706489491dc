//! The tests of this crate from outside, as one program: it links once.

mod metrics;
mod report;
mod sweep_report;
