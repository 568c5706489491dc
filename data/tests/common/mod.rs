//! Where the test data lies that is not part of the repository.

use std::path::PathBuf;

/// The path of `name` in the shared test data, or `None` with a line that says what is skipped.
pub fn shared(test: &str, name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{test}: skipped: {} not found", path.display());
    None
}
