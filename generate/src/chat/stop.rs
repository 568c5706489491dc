//! Ctrl-C while a model speaks: the first stops the answer, the second leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Result;

const LISTENING: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

/// What the person wants of the answer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<AtomicU8>);

impl Stopper {
    /// Takes Ctrl-C over. While no answer is written, it ends the process with 130: what was said
    /// so far is saved already.
    ///
    /// # Errors
    /// When the process has a handler already.
    pub fn install() -> Result<Self> {
        let stopper = Stopper::default();
        let state = stopper.0.clone();
        ctrlc::set_handler(move || {
            let stops =
                state.compare_exchange(ANSWERING, STOPPING, Ordering::SeqCst, Ordering::SeqCst);
            if stops.is_err() {
                std::process::exit(130);
            }
        })?;
        Ok(stopper)
    }

    /// An answer begins.
    pub fn begin(&self) {
        self.0.store(ANSWERING, Ordering::SeqCst);
    }

    /// The answer is written and saved.
    pub fn end(&self) {
        self.0.store(LISTENING, Ordering::SeqCst);
    }

    /// Whether the answer should stop here.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPING
    }
}
