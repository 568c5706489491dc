//! How much memory this process takes, where the system tells (Linux).
//!
//! A mapped file counts as resident while its pages are in, though the system takes them back
//! whenever it likes. What a limit on memory means is the rest: anonymous memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were resident at most, mapped pages included, as the system counted throughout.
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// The most anonymous memory that was seen, by whichever thread.
#[derive(Debug, Default)]
pub struct AnonymousPeak {
    /// 0 where the system does not tell.
    bytes: AtomicU64,
}

impl AnonymousPeak {
    /// Looks. Call it while the large buffers are there.
    pub fn sample(&self) {
        self.bytes.fetch_max(status("RssAnon:").unwrap_or(0), Ordering::Relaxed);
    }

    /// The most bytes of all samples.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }
}

/// A line of `/proc/self/status` in bytes.
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_touched_is_seen() {
        const BYTES: usize = 64 << 20;
        let peak = AnonymousPeak::default();
        let buffer = vec![1_u8; BYTES];
        peak.sample();
        assert_eq!(std::hint::black_box(&buffer).len(), BYTES);
        assert!(peak.bytes().is_some_and(|bytes| bytes >= BYTES as u64), "{peak:?}");
        assert!(peak_resident() >= peak.bytes());
    }
}
