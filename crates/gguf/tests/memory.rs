//! Malicious files do not take much memory. This is measured by counting allocations, in a separate
//! process with a single test.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

mod common;

use common::raw::Raw;
use gguf::{RawHeader, parse_header};
use testing::{CountingAllocator, peak_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The maximum of allocated memory while `bytes` is read, beyond what was allocated before.
fn peak(bytes: &[u8]) -> usize {
    let (peak, ()) = peak_of(|| {
        drop(parse_header(bytes));
        drop(RawHeader::parse(bytes));
    });
    peak
}

#[test]
fn memory_is_bounded_by_the_bytes_at_hand() {
    let counts = [0, 1, 100_000, 1_000_000, 11_000_000, 1 << 32, 1 << 62, u64::MAX];
    let filler = [b'x'; 4096];
    let mut hostile = vec![];
    for count in counts {
        hostile.push(Raw::new(count, 0));
        hostile.push(Raw::new(0, count));
        hostile.push(Raw::new(count, count).bytes(&filler));
        hostile.push(Raw::new(0, 1).u64(count).bytes(&filler));
        hostile.push(Raw::new(1, 0).u64(count).bytes(&filler));
        hostile.push(Raw::new(0, 1).key("k", 8).u64(count).bytes(&filler));
        hostile.push(Raw::new(1, 0).text(b"t").u32(count as u32).bytes(&filler));
        hostile.push(Raw::new(1, 0).tensor("t", &[count, count], 0, count).bytes(&filler));
        for element in 0..14 {
            hostile.push(Raw::new(0, 1).key("k", 9).u32(element).u64(count).bytes(&filler));
        }
    }
    for raw in hostile {
        // A tagged value of the container library takes 24 bytes, and each byte can become one.
        let limit = 64 * raw.0.len() + 64 * 1024;
        let peak = peak(&raw.0);
        assert!(
            peak <= limit,
            "{peak} bytes for {} of {:x?}",
            raw.0.len(),
            &raw.0[..40.min(raw.0.len())]
        );
    }
}
