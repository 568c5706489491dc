//! Freed memory is kept for the next step instead of being given back to the system.
//!
//! A training step makes and drops the same large buffers as the step before it. glibc serves
//! buffers of that size by fresh pages from the kernel, which must be zeroed and mapped each
//! time: for the 124M model 2.5 of 27 seconds of processor time in five steps, and for a small
//! model with the same vocabulary almost half. Told to keep what was freed, it reuses warm pages,
//! for a peak that is 10 % higher. Other systems' allocators are left as they are.

/// While this lives, freed memory stays with the process; afterwards it goes back.
pub struct KeepFreedMemory(());

impl KeepFreedMemory {
    /// Changes the allocator's settings for the whole process.
    pub fn until_dropped() -> Self {
        configure(0, i32::MAX);
        KeepFreedMemory(())
    }
}

impl Drop for KeepFreedMemory {
    fn drop(&mut self) {
        // glibc's own defaults (DEFAULT_MMAP_MAX and DEFAULT_TRIM_THRESHOLD of malloc.c).
        configure(65536, 128 * 1024);
        give_back();
    }
}

/// `mapped`: most buffers that get pages of their own; `kept`: bytes kept at the heap's end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn configure(mapped: i32, kept: i32) {
    // SAFETY: `mallopt` takes two integers, may be called at any time and from any thread, and
    // reports unknown parameters by its result, in which case nothing has changed.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, mapped);
        libc::mallopt(libc::M_TRIM_THRESHOLD, kept);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: `malloc_trim` only releases pages that no allocation uses; it is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn configure(_mapped: i32, _kept: i32) {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
