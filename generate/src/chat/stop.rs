//! Ctrl-C during a chat: the first one stops the answer, the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Result;

const LISTENING: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

/// Whether the user wants the answer to stop. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<AtomicU8>);

impl Stopper {
    /// Installs the handler of Ctrl-C. While no answer is being generated, Ctrl-C ends the process
    /// with 130: the conversation is saved already.
    ///
    /// # Errors
    /// When the process already has a handler.
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

    /// Marks the beginning of an answer.
    pub fn begin(&self) {
        self.0.store(ANSWERING, Ordering::SeqCst);
    }

    /// Marks that the answer is generated and saved.
    pub fn end(&self) {
        self.0.store(LISTENING, Ordering::SeqCst);
    }

    /// Whether the answer should stop now.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPING
    }
}
