//! Files that several projects share and that are not in this repository.

use std::path::PathBuf;

/// The file, or a line that says why a test was skipped.
pub fn test_data(test: &str, file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{test}: skipped: {} not found", path.display());
    None
}
