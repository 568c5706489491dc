//! The `train` command.

#[path = "../../../train/tests/common/mod.rs"]
mod common;
mod death;
mod full_disk;
mod lock;
