//! An allocator that counts bytes, for the tests of several crates.
//!
//! A test file declares it as its global allocator and measures with [`peak_of`]:
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

/// Bytes that are currently allocated.
static NOW: AtomicUsize = AtomicUsize::new(0);
/// The maximum of allocated bytes since [`peak_of`] began.
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of the bytes that this process has allocated.
#[derive(Debug, Clone, Copy)]
pub struct CountingAllocator;

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::SeqCst) + bytes;
    PEAK.fetch_max(now, Ordering::SeqCst);
}

// SAFETY: every call is passed to the system's allocator unchanged; counting does not access the
// allocated memory.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the bytes are copied, both blocks are allocated.
        add(size);
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work` and returns the maximum of bytes that were allocated during it, beyond those that
/// were allocated before, and its result.
///
/// All allocations of the process count, so a file with several tests has to run them one at a
/// time, with a lock.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let result = work();
    (PEAK.load(Ordering::SeqCst).saturating_sub(before), result)
}
