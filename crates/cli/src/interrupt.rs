//! Ctrl-C as a question that a loop asks, instead of a sudden death.
//!
//! Several signals often come at once: a terminal that closes hangs up on its processes, a supervisor
//! terminates what somebody has just interrupted. All of them ask to stop, once. Only a Ctrl-C that is
//! pressed again, after there was time to read the answer to the first, ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exit code of a process that was stopped at once: not all that was worth keeping is written.
const STOPPED_AT_ONCE: i32 = 131;
/// Signals that come sooner after the first one were not sent because of its answer.
const TOGETHER: Duration = Duration::from_millis(300);

/// Whether the user asked to stop. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C, termination, and hanging up (unless that is ignored, as under `nohup`): the
    /// first asks, a second Ctrl-C ends the process at once with exit code 131.
    ///
    /// # Errors
    /// When the process has a handler already.
    pub fn install() -> anyhow::Result<Self> {
        let interrupt = Interrupt::default();
        let mut requests = Requests { asked: interrupt.clone(), first: None };
        signals::watch(move |is_ctrl_c| requests.take(is_ctrl_c))?;
        Ok(interrupt)
    }

    /// Asks to stop, as the user can.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once the user has asked to stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What was asked so far.
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

    /// Calls `take` for each signal, on a thread of its own, with whether it was Ctrl-C.
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

    /// Whether whoever started this process has told it to ignore a signal.
    fn is_ignored(signal: i32) -> bool {
        // SAFETY: a `sigaction` of zeros is a valid one, and the call only writes the one that it is
        // given: without a new action, nothing is changed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(not(unix))]
mod signals {
    /// Calls `take` for each Ctrl-C, on a thread of its own.
    pub fn watch(mut take: impl FnMut(bool) + Send + 'static) -> anyhow::Result<()> {
        Ok(ctrlc::set_handler(move || take(true))?)
    }
}
