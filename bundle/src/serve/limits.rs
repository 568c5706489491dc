//! How long a client may take, and how much of the server it may hold.

use std::time::Duration;

use anyhow::ensure;

/// Descriptors that the process needs for itself: its streams, the listener, the event queue, the
/// bundle's folder, and connections that are just being closed.
const RESERVED: usize = 32;
/// More than a server for one network needs.
const MOST_DESCRIPTORS: usize = 1024;
/// What a browser takes: six connections and an answer on each, and some to spare.
const FEWEST_PER_ADDRESS: usize = 16;

/// How long a client may take, and how much of the server it may hold.
///
/// Progress is a whole request, or a part of an answer (64 KiB at most) that the system took to
/// send. So there is no limit to how long a download takes, only to how slow it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the connection to the end of its first request's header, encryption included; also
    /// from the first byte of any header to its last.
    pub header: Duration,
    /// Without progress, for a connection that has asked for something.
    pub idle: Duration,
    /// Without progress, after which a connection makes room where there is none.
    pub yielding: Duration,
    /// For answers under way when the server is asked to stop.
    pub grace: Duration,
    /// Connections and answers at once.
    pub total: usize,
    /// Those of one client address.
    pub per_address: usize,
}

impl Limits {
    /// What is right for this process, below its limit of open files.
    ///
    /// # Errors
    /// When that limit is too low to serve one browser.
    pub fn of_this_process() -> anyhow::Result<Self> {
        Self::below(descriptor_limit())
    }

    fn below(descriptors: usize) -> anyhow::Result<Self> {
        let least = RESERVED + FEWEST_PER_ADDRESS;
        ensure!(
            descriptors >= least,
            "this process may open {descriptors} files; expected at least {least} (ulimit -n)"
        );
        let total = (descriptors - RESERVED).min(MOST_DESCRIPTORS);
        Ok(Limits {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            yielding: Duration::from_secs(2),
            grace: Duration::from_secs(2),
            total,
            per_address: (total / 4).max(FEWEST_PER_ADDRESS),
        })
    }
}

/// Most files that this process may have open.
#[cfg(unix)]
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn descriptor_limit() -> usize {
    usize::MAX
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use super::*;

    #[test]
    fn what_clients_hold_stays_below_the_process_limit() {
        for descriptors in [48, 64, 256, 1024, 20_000, usize::MAX] {
            let limits = Limits::below(descriptors).unwrap();
            assert!(limits.total + RESERVED <= descriptors, "{descriptors}");
            assert!(limits.per_address <= limits.total && limits.per_address >= 16);
        }
        assert!(Limits::below(47).unwrap_err().to_string().contains("ulimit -n"));
    }
}
