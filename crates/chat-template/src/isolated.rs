//! Work that a stranger's text controls, done in a process of its own.
//!
//! What a template computes cannot be bounded from inside: operators copy strings without a limit,
//! filters reserve what a number in the text says, values that hold themselves are walked without
//! an end. So the work runs in a copy of this process (`fork`), which the operating system ends:
//!
//! | what | bound | by |
//! |---|---|---|
//! | time | the caller's `time`, for example [`LONGEST`] | the caller, which kills the copy |
//! | memory | [`MEMORY`] above what this process has mapped | `RLIMIT_AS` (Linux) |
//! | depth | [`STACK`] | the stack of the thread that is copied |
//! | output | [`OUTPUT`] | the caller, which reads no more |
//!
//! The copy writes its answer into a pipe and ends. However it ends, the caller only gets an error.
//! No other program is started, so this works in whatever program uses this library. In the copy
//! only the thread exists that made it. The work must therefore not wait for another thread; if it
//! does, it ends with the error about time.
//!
//! macOS does not enforce the bound of memory. Systems other than Unix run the work on a thread,
//! with its bounds of depth (as an end of the program) and output, and no others.

use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};

/// Time for one text. A real template takes about a millisecond.
pub(super) const LONGEST: Duration = Duration::from_millis(900);
/// Bytes that the work may map.
#[cfg(unix)]
const MEMORY: u64 = 192 << 20;
/// Bytes of the stack, which bound the depth of recursion.
const STACK: usize = 8 << 20;
/// Longest text that comes back, in bytes: more than any model's context holds.
const OUTPUT: usize = 16 << 20;
/// Longest error that comes back, in characters.
const LONGEST_ERROR: usize = 1000;

/// Gives back what `work` returns within `time`, or the error that it returns or causes.
///
/// # Errors
/// Those of `work`; when it panics or goes beyond a bound; when the system gives no process.
pub(super) fn run(time: Duration, work: impl FnOnce() -> Result<String> + Send) -> Result<String> {
    std::thread::scope(|scope| {
        // The copy has this thread's stack, so that its depth does not depend on the caller.
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || in_process(time, work))?;
        thread.join().unwrap_or_else(|_| bail!("the process that renders it could not be watched"))
    })
}

/// What `work` has to say, a panic as an error.
fn outcome(work: impl FnOnce() -> Result<String>) -> Result<String, String> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    match result {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(format!("{error:#}").chars().take(LONGEST_ERROR).collect()),
        Err(_) => Err("it is malformed in a way that the template engine does not expect".into()),
    }
}

fn check_length(text: &str) -> Result<()> {
    ensure!(text.len() <= OUTPUT, "it writes more than {} MB of text", OUTPUT >> 20);
    Ok(())
}

#[cfg(not(unix))]
fn in_process(_time: Duration, work: impl FnOnce() -> Result<String>) -> Result<String> {
    let text = outcome(work).map_err(|error| anyhow!(error))?;
    check_length(&text)?;
    Ok(text)
}

#[cfg(unix)]
use unix::in_process;

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, PipeReader, Read, Write};
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::{Mutex, PoisonError};
    use std::time::Instant;

    use anyhow::Context;

    use super::*;

    /// Held from the making of a pipe until only the copy can write into it.
    static ONE_PIPE: Mutex<()> = Mutex::new(());

    /// First byte of an answer.
    const TEXT: u8 = b't';
    const ERROR: u8 = b'e';

    pub(super) fn in_process(
        time: Duration,
        work: impl FnOnce() -> Result<String>,
    ) -> Result<String> {
        let mapped = mapped_bytes();
        let (child, answer) = {
            // Another copy made meanwhile would keep this pipe open when this copy has ended.
            let _one = ONE_PIPE.lock().unwrap_or_else(PoisonError::into_inner);
            let (answer, pipe) = io::pipe().context("no pipe to the process that renders it")?;
            let child = Child::fork(|| {
                restrict(mapped, time);
                reply(pipe, work);
            })?;
            (child, answer)
        };
        let answer = receive(answer, time);
        let signal = child.end();
        let answer = answer?;
        match answer.split_first() {
            Some((&TEXT, text)) => {
                let text = String::from_utf8(text.to_vec()).context("it writes no UTF-8")?;
                check_length(&text)?;
                Ok(text)
            }
            Some((_, error)) => Err(anyhow!(String::from_utf8_lossy(error).into_owned())),
            None => bail!(
                "it needs more than {} MB of memory or recurses too deep (signal {signal})",
                MEMORY >> 20
            ),
        }
    }

    /// Writes what `work` has to say. A write can only fail when the caller has gone.
    fn reply(mut pipe: impl Write, work: impl FnOnce() -> Result<String>) {
        let (kind, said) = match outcome(work) {
            Ok(text) => (TEXT, text),
            Err(error) => (ERROR, error),
        };
        let _ = pipe.write_all(&[kind]).and_then(|()| pipe.write_all(said.as_bytes()));
    }

    /// Everything up to the end of the answer, within the bounds of time and output.
    fn receive(answer: PipeReader, time: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + time;
        let mut answer = File::from(OwnedFd::from(answer));
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero() && is_readable(&answer, left.as_millis())?,
                "it takes longer than {} ms",
                time.as_millis()
            );
            let count = answer.read(&mut piece).context("cannot read the rendered text")?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece[..count]);
            ensure!(bytes.len() <= OUTPUT + 1, "it writes more than {} MB of text", OUTPUT >> 20);
        }
    }

    /// Waits until there is something to read, or the end.
    fn is_readable(file: &File, milliseconds: u128) -> Result<bool> {
        let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = i32::try_from(milliseconds).unwrap_or(i32::MAX).max(1);
        // SAFETY: one pollfd, which lives through the call.
        let ready = unsafe { libc::poll(&mut wanted, 1, timeout) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            // Asked again by the caller, which knows how much time is left.
            ensure!(error.kind() == io::ErrorKind::Interrupted, "cannot wait for it: {error}");
            return is_readable(file, milliseconds / 2);
        }
        Ok(ready > 0)
    }

    /// A copy of this process. It is killed when this is dropped.
    struct Child {
        id: libc::pid_t,
        is_waited_for: bool,
    }

    impl Child {
        /// Runs `body` in a copy of this process, which ends with it.
        fn fork(body: impl FnOnce()) -> Result<Self> {
            block_signals();
            // SAFETY: the copy runs `body` and ends without returning into the caller's code. What
            // `body` uses of this process is memory, and malloc, which the C libraries keep usable
            // after a fork. Should another lock be held by a thread that the copy lacks, the copy
            // waits and is killed at the deadline.
            match unsafe { libc::fork() } {
                -1 => Err(io::Error::last_os_error()).context("no process to render it in"),
                0 => {
                    body();
                    // SAFETY: ends the copy; nothing that belongs to the caller is flushed.
                    unsafe { libc::_exit(0) }
                }
                id => Ok(Child { id, is_waited_for: false }),
            }
        }

        /// Ends it and gives the number of the signal that it died of, 0 if of none.
        fn end(mut self) -> i32 {
            self.kill_and_wait()
        }

        fn kill_and_wait(&mut self) -> i32 {
            let mut status = 0;
            if !std::mem::replace(&mut self.is_waited_for, true) {
                // SAFETY: a child of ours that nobody has waited for, so the number is still its.
                unsafe {
                    // One that has ended keeps the status that it ended with.
                    libc::kill(self.id, libc::SIGKILL);
                    while libc::waitpid(self.id, &mut status, 0) < 0
                        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                    {
                    }
                }
            }
            if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.kill_and_wait();
        }
    }

    /// Blocks all signals of this thread, which has no other work: a Ctrl-C is the caller's, and a
    /// stack that overflows ends the copy at once.
    fn block_signals() {
        let mut all = MaybeUninit::uninit();
        // SAFETY: `sigfillset` writes the whole set before it is read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
        }
    }

    /// Sets the bounds of the copy, and sends what it says to nobody.
    fn restrict(mapped: u64, time: Duration) {
        limit(libc::RLIMIT_AS, mapped + MEMORY);
        limit(libc::RLIMIT_CORE, 0);
        // Should the caller die, nobody else would end it.
        limit(libc::RLIMIT_CPU, time.as_secs() + 1);
        if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
            // SAFETY: both are open descriptors; the standard library keeps no state of stderr.
            unsafe { libc::dup2(nowhere.as_raw_fd(), libc::STDERR_FILENO) };
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    type Resource = libc::__rlimit_resource_t;
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    type Resource = libc::c_int;

    fn limit(resource: Resource, most: u64) {
        let limit = libc::rlimit { rlim_cur: most as libc::rlim_t, rlim_max: most as libc::rlim_t };
        // SAFETY: reads the struct. A stricter limit of the system stays: raising it is refused.
        unsafe { libc::setrlimit(resource, &limit) };
    }

    /// Bytes that this process has mapped: models are, and they count in `RLIMIT_AS`.
    #[cfg(target_os = "linux")]
    fn mapped_bytes() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        // SAFETY: asks for a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        pages.map_or(UNLIMITED, |pages| pages * u64::try_from(page).unwrap_or(4096))
    }

    /// Unknown here: the limit would be too strict.
    #[cfg(not(target_os = "linux"))]
    fn mapped_bytes() -> u64 {
        UNLIMITED
    }

    /// Far above any memory, and still not beyond 64 bits when something is added.
    const UNLIMITED: u64 = 1 << 62;
}
