//! Helpers of several tests.
#![allow(dead_code, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

pub mod invariant;
pub mod raw;
pub mod strategies;

use std::path::PathBuf;

use gguf::{Metadata, TensorType};

/// Name, shape with the fastest dimension first, format.
pub type Described = (String, Vec<u64>, TensorType);

/// Writes a whole file into memory; each tensor gets the bytes 0, 1, 2, ...
pub fn write(metadata: &Metadata, tensors: &[Described]) -> Vec<u8> {
    let mut writer = gguf::Writer::new(Vec::new(), metadata, tensors).unwrap();
    for tensor in writer.layout().tensors.clone() {
        let data = (0..tensor.size).map(|n| n as u8).collect::<Vec<_>>();
        writer.write_tensor(&tensor.name, &data).unwrap();
    }
    writer.finish().unwrap()
}

/// A file of the shared test data, or `None` after a line that says what is skipped.
pub fn test_data(test: &str, file: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or(default.into(), PathBuf::from);
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    println!("{test} skipped: {} not found", path.display());
    None
}
