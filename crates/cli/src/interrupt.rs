//! Ctrl-C as a flag that loops check, so that the process can stop in an orderly way.
//!
//! Several signals often arrive together: a terminal that is closed sends SIGHUP to its processes,
//! and a supervisor terminates a process that was just interrupted. All of them together request
//! one stop. Only a second Ctrl-C ends the process at once, and only after the user had time to
//! read the message about the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exit code of a process that was stopped at once, before everything worth keeping was written.
const STOPPED_AT_ONCE: i32 = 131;
/// Signals that arrive within this time after the first one are not a reaction to its message.
const TOGETHER: Duration = Duration::from_millis(300);

/// Whether the user requested a stop. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Handles Ctrl-C, SIGTERM and SIGHUP (unless SIGHUP is ignored, as with `nohup`): the first
    /// signal requests a stop, a second Ctrl-C ends the process at once with exit code 131.
    ///
    /// # Errors
    /// When the process already has a handler.
    pub fn install() -> anyhow::Result<Self> {
        let interrupt = Interrupt::default();
        let mut requests = Requests { asked: interrupt.clone(), first: None };
        signals::watch(move |is_ctrl_c| requests.take(is_ctrl_c))?;
        Ok(interrupt)
    }

    /// Requests a stop, as a signal does.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True after a stop was requested.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The requests so far.
struct Requests {
    asked: Interrupt,
    first: Option<Instant>,
}

impl Requests {
    fn take(&mut self, is_ctrl_c: bool) {
        match self.first {
            None => {
                self.first = Some(Instant::now());
                self.asked.request();
                let answer = "\nstopping after this step; press Ctrl-C again to stop at once";
                crate::note(answer);
            }
            Some(first) if is_ctrl_c && first.elapsed() > TOGETHER => {
                std::process::exit(STOPPED_AT_ONCE)
            }
            Some(_) => {}
        }
    }
}

#[cfg(unix)]
mod signals {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    /// Calls `take` for each signal, on a separate thread; the argument says whether it was Ctrl-C.
    pub fn watch(mut take: impl FnMut(bool) + Send + 'static) -> anyhow::Result<()> {
        let mut wanted = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            wanted.push(SIGHUP);
        }
        let mut signals = Signals::new(wanted)?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                take(signal == SIGINT);
            }
        })?;
        Ok(())
    }

    /// Whether the parent process has set this signal to be ignored.
    fn is_ignored(signal: i32) -> bool {
        // SAFETY: a `sigaction` of zeros is valid, and the call only writes to the one that is
        // passed: without a new action it changes nothing else.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(not(unix))]
mod signals {
    /// Calls `take` for each Ctrl-C, on a separate thread.
    pub fn watch(mut take: impl FnMut(bool) + Send + 'static) -> anyhow::Result<()> {
        Ok(ctrlc::set_handler(move || take(true))?)
    }
}
