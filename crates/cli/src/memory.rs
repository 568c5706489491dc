//! How much memory this process takes, where the system tells (Linux).
//!
//! A mapped file counts as resident while its pages are in, though the system takes them back
//! whenever it likes. What a limit on memory means is the rest: anonymous memory.

/// Bytes that were resident at most, mapped pages included, as the system counted throughout.
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// The most anonymous memory that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnonymousPeak {
    bytes: Option<u64>,
}

impl AnonymousPeak {
    /// Looks. Call it while the large buffers are there.
    pub fn sample(&mut self) {
        self.bytes = self.bytes.max(status("RssAnon:"));
    }

    /// The most bytes of all samples.
    pub fn bytes(self) -> Option<u64> {
        self.bytes
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
        let mut peak = AnonymousPeak::default();
        let buffer = vec![1_u8; BYTES];
        peak.sample();
        assert_eq!(std::hint::black_box(&buffer).len(), BYTES);
        assert!(peak.bytes().is_some_and(|bytes| bytes >= BYTES as u64), "{peak:?}");
        assert!(peak_resident() >= peak.bytes());
    }
}
