//! The free space of a disk.

use std::path::Path;

/// Bytes that this user may still write to the file system of `folder`; `None` if the system does
/// not report them.
#[cfg(unix)]
pub fn available_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    // Some file systems in user space do not report sizes: they have zero blocks.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that this user may still write to the file system of `folder`; `None` if the system does
/// not report them.
#[cfg(not(unix))]
pub fn available_space(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_test_and_none_where_there_is_nothing() {
        assert!(available_space(&std::env::temp_dir()).is_some_and(|bytes| bytes > 0));
        assert_eq!(available_space(Path::new("/no/such/folder")), None);
    }
}
