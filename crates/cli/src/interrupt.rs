//! Ctrl-C as a question that a loop asks, instead of a sudden death.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user asked to stop. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C and termination: the first asks, the second ends the process at once.
    ///
    /// # Errors
    /// When the process has a handler already.
    pub fn install() -> anyhow::Result<Self> {
        let interrupt = Interrupt::default();
        let asked = interrupt.clone();
        ctrlc::set_handler(move || {
            if asked.0.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping after this step; press Ctrl-C again to stop at once");
        })?;
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
