//! What the fuzz targets share: a folder to put a stranger's files into, and a bound on memory.

pub mod chat;

use std::path::Path;

#[global_allocator]
static ALLOCATOR: testing::CountingAllocator = testing::CountingAllocator;

/// Runs `work` with a folder that holds `files`, given as names and contents. The folder is the
/// same one each time, in memory where the system has a file system there.
///
/// # Panics
/// When the system refuses.
pub fn with_files<T>(files: &[(&str, &[u8])], work: impl FnOnce(&Path) -> T) -> T {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("fuzz-").tempdir_in(parent).expect("a folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    work(folder.path())
}

/// Runs `work` on an input of `size` bytes and returns its result. What is made once in a process
/// (tables, compiled patterns) is not the input's: where the bound is passed, a second run counts.
///
/// # Panics
/// When `work` held more than `factor` times the size at once, beyond `constant` bytes.
pub fn bounded<T>(size: usize, factor: usize, constant: usize, work: impl Fn() -> T) -> T {
    let bound = size * factor + constant;
    let (first, result) = testing::peak_of(&work);
    if first <= bound {
        return result;
    }
    drop(result);
    let (peak, result) = testing::peak_of(work);
    assert!(peak <= bound, "{peak} bytes were held for an input of {size}; expected at most {bound}");
    result
}

/// Lets the code under test catch panics: libFuzzer's own hook ends the process at each one. A panic
/// that is not caught still ends it.
pub fn allow_caught_panics() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}
