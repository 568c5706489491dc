//! How much memory this process takes, by kind.
//!
//! A mapped file counts as resident while its pages are in, though the system takes them back
//! whenever it likes. What a limit on memory means is the rest: anonymous memory.

/// The most memory seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Peak {
    /// Anonymous bytes, at the sampled moments.
    pub(crate) anonymous: Option<u64>,
}

impl Peak {
    /// Takes a sample. Call it while the large buffers are there.
    pub(crate) fn sample(&mut self) {
        self.anonymous = self.anonymous.max(status("RssAnon:"));
    }

    /// Resident bytes at most, mapped pages included, as the system counted them throughout.
    pub(crate) fn resident() -> Option<u64> {
        status("VmHWM:")
    }
}

/// A line of `/proc/self/status` in bytes, where there is such a file (Linux).
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
