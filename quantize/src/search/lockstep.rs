//! Many windows through one block, all at the same matrix at the same time.
//!
//! A matrix is fitted to its inputs in all windows, and these depend on the matrices before it as
//! they are quantized. So each window's pass has a thread, which stops where it comes to a matrix
//! and goes on when that matrix has been replaced. The block is computed once, and the memory is that
//! of all windows' intermediate results.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, bail};
use reference::{LoadedBlock, ReferenceError};

/// A pass that has come to some matrices.
struct Stop {
    /// The tensors that are to be multiplied with the input.
    names: Vec<String>,
    /// `[T, N]`
    input: Vec<f32>,
}

/// The other end of a window's pass.
struct Pass<'scope> {
    stops: Receiver<Stop>,
    go_on: Sender<()>,
    thread: ScopedJoinHandle<'scope, Result<(), ReferenceError>>,
}

/// Takes the tensors that are multiplied with an input, and that input in every window, `[T, N]`.
type AtMatrices<'a> = dyn FnMut(&[String], &[Vec<f32>]) -> Result<()> + 'a;

/// Computes the block for windows `[T, C]` in place. At each of its inputs `at_matrices` is called
/// with the tensors that are multiplied with it and the input in every window, and may replace them.
///
/// # Errors
/// What `at_matrices` returns, or the block cannot be computed; then the windows hold what is of no use.
pub(super) fn forward(
    block: &LoadedBlock<'_>,
    windows: Vec<&mut [f32]>,
    at_matrices: &mut AtMatrices<'_>,
) -> Result<()> {
    thread::scope(|scope| {
        let start = |window| {
            let (stopped, stops) = channel();
            let (go_on, may_go_on) = channel();
            let thread = scope.spawn(move || run(block, window, &stopped, &may_go_on));
            Pass { stops, go_on, thread }
        };
        let passes: Vec<Pass<'_>> = windows.into_iter().map(start).collect();
        loop {
            let stops: Vec<Stop> =
                passes.iter().filter_map(|pass| pass.stops.recv().ok()).collect();
            let Some(first) = stops.first() else {
                return passes.into_iter().try_for_each(Pass::join);
            };
            let names = first.names.clone();
            if stops.len() < passes.len() || stops.iter().any(|stop| stop.names != names) {
                bail!("{}: not every window comes to these tensors", names.join(", "));
            }
            let inputs: Vec<Vec<f32>> = stops.into_iter().map(|stop| stop.input).collect();
            at_matrices(&names, &inputs)?;
            drop(inputs);
            // A pass that has ended in a panic is not there; the scope hands the panic on.
            for pass in &passes {
                let _ = pass.go_on.send(());
            }
        }
    })
}

impl Pass<'_> {
    /// How the pass ended; its panic is handed on.
    fn join(self) -> Result<()> {
        match self.thread.join() {
            Ok(done) => Ok(done?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// One window's pass. Where nobody listens any more, it goes on to its end.
fn run(
    block: &LoadedBlock<'_>,
    window: &mut [f32],
    stopped: &Sender<Stop>,
    go_on: &Receiver<()>,
) -> Result<(), ReferenceError> {
    block.observe(window, &mut |names, input| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        if stopped.send(Stop { names, input: input.to_vec() }).is_ok() {
            // An error says that the other side has given up.
            let _ = go_on.recv();
        }
    })
}
