//! Progress on stderr: a bar on a terminal, otherwise nothing.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::shows_progress;

/// What a [`Progress`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meter {
    /// Bytes, shown as MiB and MiB/s.
    Bytes,
    /// Anything else, shown as a plain count.
    Items,
}

/// Prints a line to stderr, unless the command was told to be quiet. If that fails (a log on a full disk, a closed terminal), the error is
/// ignored, because the work is more important than the line.
pub fn note(line: &str) {
    if shows_progress() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A progress bar, hidden when stderr is not a terminal or the command was told to be quiet.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` units with `title` on its left.
    pub fn new(title: &str, total: u64, meter: Meter) -> Self {
        let template = match meter {
            Meter::Bytes => {
                "{prefix:>10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}"
            }
            Meter::Items => "{prefix:>10} {wide_bar} {pos}/{len} {eta} {msg}",
        };
        let target = match shows_progress() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        Progress(bar)
    }

    /// A bar that is never drawn, for tests and nested work.
    pub fn hidden() -> Self {
        Progress(ProgressBar::hidden())
    }

    /// Advances by `units`.
    pub fn advance(&self, units: u64) {
        self.0.inc(units);
    }

    /// Sets the position to `units` from the start, for a resumed run.
    pub fn set(&self, units: u64) {
        self.0.set_position(units);
    }

    /// Text on the right: loss, speed, the current tensor.
    pub fn message(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// Prints a line above the bar (or just prints it, if there is no bar).
    pub fn note(&self, line: &str) {
        if self.0.is_hidden() { note(line) } else { self.0.println(line) }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
