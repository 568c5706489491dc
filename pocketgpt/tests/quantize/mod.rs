//! The `quantize` command.

mod imatrix;
mod killed;
#[path = "../../../quantize/tests/quantize/models.rs"]
mod models;
