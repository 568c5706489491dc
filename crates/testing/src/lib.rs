//! What the tests of several crates share: an allocator that counts.
//!
//! A test file names it as its own allocator, and measures with [`peak_of`]:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: testing::CountingAllocator = testing::CountingAllocator;
//!
//! let (bytes, list) = testing::peak_of(|| vec![0_u8; 1 << 20]);
//! assert!(bytes >= list.len());
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are allocated now.
static NOW: AtomicUsize = AtomicUsize::new(0);
/// The most that were allocated at once since [`peak_of`] began.
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which also counts the bytes that this process holds.
#[derive(Debug, Clone, Copy)]
pub struct CountingAllocator;

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::SeqCst) + bytes;
    PEAK.fetch_max(now, Ordering::SeqCst);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the bytes are copied, both blocks are there.
        add(size);
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes that were allocated while `work` ran, beyond those that were allocated before,
/// and its result.
///
/// Everything that the process allocates counts, so a file with several tests runs them one at a
/// time, behind a lock.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let result = work();
    (PEAK.load(Ordering::SeqCst).saturating_sub(before), result)
}
