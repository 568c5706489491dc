//! Memory for tensors: large buffers are whole pages, which are kept from step to step.
//!
//! Every training step allocates and frees the same large buffers. An allocator that returns them
//! to the system gets zeroed and newly mapped pages each time (this takes a tenth of the CPU time
//! for the 124M model, and almost half for a small model with the same vocabulary). An allocator
//! that keeps them in a heap ends with holes that are too small for the next buffer (for the small
//! model, half a gigabyte more than the live memory). Buffers of [`LARGE`] bytes or more therefore
//! come from [`Pages`]: freed ranges of pages are kept, merged with their neighbours and split for
//! the next buffer. Memory above the highest amount that was live at once is returned to the
//! system. Smaller buffers are left to the system allocator.
//!
//! A program takes it as its global allocator; the library does not decide that. Outside of training
//! it keeps at most [`SPARE`] bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers of this many bytes or more get their own pages; glibc would map them as well.
const LARGE: usize = 128 << 10;
/// Buffers begin and end at multiples of this: a multiple of every page size in use.
const GRANULE: usize = 64 << 10;
/// Alignment that every mapping has.
const PAGE: usize = 4 << 10;
/// Free bytes that are kept above the most that was live at once.
const SPARE: usize = 32 << 20;
/// Most free ranges that are kept: a fixed table, because an allocator cannot allocate.
const RANGES: usize = 1024;

static PAGES: Mutex<Pages> = Mutex::new(Pages::new());

fn pages() -> MutexGuard<'static, Pages> {
    PAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this value exists, the process keeps as much memory as it used at any time. When it is
/// dropped, free memory is returned to the system. Without [`PageAllocator`] it does nothing.
pub struct KeepFreedMemory(());

impl KeepFreedMemory {
    /// Starts keeping freed memory, for the whole process.
    pub fn until_dropped() -> Self {
        pages().keep(true);
        KeepFreedMemory(())
    }
}

impl Drop for KeepFreedMemory {
    fn drop(&mut self) {
        pages().keep(false);
    }
}

/// The allocator: `#[global_allocator] static ALLOCATOR: train::PageAllocator = train::PageAllocator;`
pub struct PageAllocator;

/// The bytes of pages for a buffer, if [`Pages`] serves it.
fn pages_of(layout: Layout) -> Option<usize> {
    let large = cfg!(unix) && layout.size() >= LARGE && layout.align() <= PAGE;
    // A layout is at most isize::MAX, so rounding up does not overflow.
    large.then(|| layout.size().next_multiple_of(GRANULE))
}

// SAFETY: the layout alone decides which of the two allocators serves it, and `pages_of` returns
// the same for a layout when it is freed. `Pages` returns disjoint ranges of mapped memory, aligned
// to pages; `System` is an allocator.
unsafe impl GlobalAlloc for PageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match pages_of(layout) {
            Some(len) => pages().take(len).map_or(ptr::null_mut(), |taken| taken.start()),
            // SAFETY: the caller guarantees a layout that is not empty.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(len) = pages_of(layout) else {
            // SAFETY: the caller guarantees a layout that is not empty.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let taken = pages().take(len);
        if let Some(Taken::Used(start)) = taken {
            // SAFETY: the range is at least this long and is not used by anything else.
            unsafe { start.write_bytes(0, layout.size()) };
        }
        taken.map_or(ptr::null_mut(), |taken| taken.start())
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        match pages_of(layout) {
            Some(len) => pages().give(start as usize, len),
            // SAFETY: the caller guarantees that `System` allocated this with this layout.
            None => unsafe { System.dealloc(start, layout) },
        }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `size` is valid for a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (pages_of(layout), pages_of(wanted)) {
            // SAFETY: the caller guarantees that `System` allocated this with this layout.
            (None, None) => unsafe { System.realloc(start, layout, size) },
            (Some(before), Some(after)) if before == after => start,
            _ => {
                // SAFETY: as the caller guarantees; the two buffers do not overlap.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        let kept = layout.size().min(size);
                        ptr::copy_nonoverlapping(start, moved, kept);
                        self.dealloc(start, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// The result of [`Pages::take`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taken {
    /// Pages that the system has just zeroed.
    Fresh(*mut u8),
    /// Pages that still hold the data of an earlier buffer.
    Used(*mut u8),
}

impl Taken {
    fn start(self) -> *mut u8 {
        match self {
            Taken::Fresh(start) | Taken::Used(start) => start,
        }
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    start: usize,
    len: usize,
}

/// The free ranges of pages, and how much is in use.
struct Pages {
    /// The first `count` entries are sorted by address and do not touch each other.
    free: [Range; RANGES],
    count: usize,
    free_bytes: usize,
    live_bytes: usize,
    /// Most bytes live at once since [`Pages::keep`]; 0 if freed memory is not kept.
    most_live_bytes: usize,
    keeping: bool,
}

impl Pages {
    const fn new() -> Self {
        Pages {
            free: [Range { start: 0, len: 0 }; RANGES],
            count: 0,
            free_bytes: 0,
            live_bytes: 0,
            most_live_bytes: 0,
            keeping: false,
        }
    }

    /// Whether to keep freed memory up to the most that was live, or to return it.
    fn keep(&mut self, keeping: bool) {
        self.keeping = keeping;
        self.most_live_bytes = if keeping { self.live_bytes } else { 0 };
        self.release_excess();
    }

    /// A range of `len` bytes, a multiple of [`GRANULE`]; `None` when the system has no more.
    fn take(&mut self, len: usize) -> Option<Taken> {
        self.live_bytes += len;
        if self.keeping {
            self.most_live_bytes = self.most_live_bytes.max(self.live_bytes);
        }
        if let Some(start) = self.take_free(len) {
            return Some(Taken::Used(start as *mut u8));
        }
        self.release_excess(); // before mapping, so that both never exist at once
        match system::map(len) {
            Some(start) => Some(Taken::Fresh(start.as_ptr())),
            None => {
                self.live_bytes -= len;
                None
            }
        }
    }

    /// Takes the smallest free range that is long enough and returns its start; the rest stays
    /// free.
    fn take_free(&mut self, len: usize) -> Option<usize> {
        let fits = |&i: &usize| self.free[i].len >= len;
        let best = (0..self.count).filter(fits).min_by_key(|&i| self.free[i].len)?;
        let range = &mut self.free[best];
        let start = range.start;
        *range = Range { start: start + len, len: range.len - len };
        if range.len == 0 {
            self.remove(best);
        }
        self.free_bytes -= len;
        Some(start)
    }

    /// Takes back a range that [`Pages::take`] returned.
    fn give(&mut self, start: usize, len: usize) {
        self.live_bytes -= len;
        let at = self.free[..self.count].partition_point(|range| range.start < start);
        let after = at < self.count && start + len == self.free[at].start;
        let before = at > 0 && self.free[at - 1].start + self.free[at - 1].len == start;
        match (before, after) {
            (true, true) => {
                self.free[at - 1].len += len + self.free[at].len;
                self.remove(at);
            }
            (true, false) => self.free[at - 1].len += len,
            (false, true) => self.free[at] = Range { start, len: len + self.free[at].len },
            (false, false) if self.count == RANGES => return system::unmap(start, len),
            (false, false) => {
                self.free.copy_within(at..self.count, at + 1);
                self.free[at] = Range { start, len };
                self.count += 1;
            }
        }
        self.free_bytes += len;
        self.release_excess();
    }

    fn remove(&mut self, at: usize) {
        self.free.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }

    /// Returns free ranges to the system until no more is held than was live at once. The smallest
    /// go first, since they fit the fewest buffers.
    fn release_excess(&mut self) {
        let allowed = self.most_live_bytes.max(self.live_bytes) + SPARE;
        while self.live_bytes + self.free_bytes > allowed && self.count > 0 {
            let excess = self.live_bytes + self.free_bytes - allowed;
            let Some(at) = (0..self.count).min_by_key(|&i| self.free[i].len) else { return };
            let Range { start, len } = self.free[at];
            let part = len.min(excess.next_multiple_of(GRANULE));
            system::unmap(start + len - part, part);
            self.free[at].len -= part;
            self.free_bytes -= part;
            if self.free[at].len == 0 {
                self.remove(at);
            }
        }
    }
}

#[cfg(unix)]
mod system {
    use std::ptr::{self, NonNull};

    /// Maps zeroed pages.
    pub fn map(len: usize) -> Option<NonNull<u8>> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the system chooses touches no other memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        #[cfg(target_os = "linux")]
        // With small pages a training step takes a fifth longer (531 against 632 tokens/s).
        // SAFETY: advice on the mapping just made; if the system declines it, nothing changes.
        unsafe {
            libc::madvise(start, len, libc::MADV_HUGEPAGE);
        }
        NonNull::new(start.cast())
    }

    /// Returns whole pages of one or several mappings to the system.
    pub fn unmap(start: usize, len: usize) {
        // SAFETY: the range consists of pages that `map` returned and that no buffer uses.
        unsafe { libc::munmap(start as *mut libc::c_void, len) };
    }
}

#[cfg(not(unix))]
mod system {
    use std::ptr::NonNull;

    /// Never called: [`super::pages_of`] leaves everything to the system allocator.
    pub fn map(_len: usize) -> Option<NonNull<u8>> {
        None
    }

    pub fn unmap(_start: usize, _len: usize) {}
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: PageAllocator = PageAllocator;

    const G: usize = GRANULE;

    fn start(taken: Option<Taken>) -> usize {
        taken.unwrap().start() as usize
    }

    /// The memory held never exceeds what was live at once, and buffers do not overlap: each is
    /// filled with its own number and read back.
    #[test]
    fn buffers_do_not_overlap_and_little_more_is_held_than_was_alive() {
        let mut pages = Box::new(Pages::new());
        pages.keep(true);
        let mut buffers: Vec<(usize, usize, u8)> = Vec::new();
        let mut random = 1_u64;
        for turn in 0..4000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let draw = (random >> 33) as usize;
            if buffers.len() > 30 || (draw.is_multiple_of(3) && !buffers.is_empty()) {
                let (start, len, mark) = buffers.swap_remove(draw % buffers.len());
                // SAFETY: the buffer is mapped, and was filled when it was taken.
                let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len) };
                assert!(bytes.iter().step_by(G / 2).all(|&byte| byte == mark));
                pages.give(start, len);
            } else {
                let (len, mark) = ((1 + draw % 20) * G, turn as u8);
                let start = start(pages.take(len));
                // SAFETY: the buffer is mapped and only this test uses it.
                unsafe { (start as *mut u8).write_bytes(mark, len) };
                buffers.push((start, len, mark));
            }
            assert!(pages.live_bytes + pages.free_bytes <= pages.most_live_bytes + SPARE);
            let ranges = &pages.free[..pages.count];
            assert!(ranges.windows(2).all(|two| two[0].start + two[0].len < two[1].start));
            assert_eq!(ranges.iter().map(|range| range.len).sum::<usize>(), pages.free_bytes);
        }
        buffers.into_iter().for_each(|(start, len, _)| pages.give(start, len));
        assert_eq!(pages.live_bytes, 0);
        pages.keep(false);
        assert!(pages.free_bytes <= SPARE);
    }

    #[test]
    fn freed_neighbours_are_joined_and_cut_again() {
        let mut pages = Box::new(Pages::new());
        pages.keep(true);
        let whole = start(pages.take(6 * G));
        pages.give(whole, 6 * G);
        let parts = [0; 3].map(|_| start(pages.take(2 * G)));
        assert_eq!(parts, [whole, whole + 2 * G, whole + 4 * G]);
        pages.give(parts[0], 2 * G);
        pages.give(parts[2], 2 * G);
        pages.give(parts[1], 2 * G);
        assert_eq!(pages.free[..pages.count], [Range { start: whole, len: 6 * G }]);
        assert_eq!(pages.take(6 * G), Some(Taken::Used(whole as *mut u8)));
        pages.give(whole, 6 * G);
    }

    #[test]
    fn the_smallest_range_that_fits_is_taken() {
        let mut pages = Box::new(Pages::new());
        pages.keep(true);
        let lens = [8 * G, G, 3 * G, G, 5 * G, G];
        let whole = start(pages.take(19 * G));
        pages.give(whole, 19 * G); // so that the buffers are in this order
        let starts = lens.map(|len| start(pages.take(len)));
        for i in [0, 2, 4] {
            pages.give(starts[i], lens[i]);
        }
        let taken = start(pages.take(3 * G));
        assert_eq!(taken, starts[2]);
        for i in [1, 3, 5] {
            pages.give(starts[i], lens[i]);
        }
        pages.give(taken, 3 * G);
    }

    #[test]
    fn zeroed_memory_is_zero_and_grown_memory_keeps_its_contents() {
        for _ in 0..3 {
            let mut zeros = vec![0_u8; 3 * LARGE];
            assert!(zeros.iter().all(|&byte| byte == 0));
            zeros.fill(7);
            let mut grown = zeros;
            grown.resize(9 * LARGE, 8);
            grown.truncate(2 * LARGE);
            grown.shrink_to_fit();
            assert!(grown.iter().all(|&byte| byte == 7));
            grown.truncate(LARGE / 2);
            grown.shrink_to_fit();
            assert!(grown.iter().all(|&byte| byte == 7));
        }
    }
}
