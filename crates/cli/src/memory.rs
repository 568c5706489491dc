//! How much memory this process uses, if the system reports it (Linux).
//!
//! The pages of a mapped file count as resident while they are in memory, although the system can
//! drop them at any time. The rest, anonymous memory, is what counts for a memory limit.

use std::sync::atomic::{AtomicU64, Ordering};

/// The maximum of resident bytes so far, including mapped pages, as the system counts it.
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// The maximum of anonymous memory over all samples, which may come from several threads.
#[derive(Debug, Default)]
pub struct AnonymousPeak {
    /// 0 if the system does not report it.
    bytes: AtomicU64,
}

impl AnonymousPeak {
    /// Takes a sample. Call it while the large buffers are allocated.
    pub fn sample(&self) {
        self.bytes.fetch_max(status("RssAnon:").unwrap_or(0), Ordering::Relaxed);
    }

    /// The maximum of all samples, in bytes.
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
