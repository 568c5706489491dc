//! Computes one block for many windows, all at the same matrix at the same time.
//!
//! A matrix is fitted to its inputs in all windows, and these depend on the quantized matrices
//! before it. Each window's pass therefore has a thread, which waits at each matrix until that
//! matrix has been replaced. The block is computed once, and memory holds the intermediate results
//! of all windows.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, bail};
use reference::{LoadedBlock, ReferenceError};

/// A pass that is waiting at some matrices.
struct Stop {
    /// The tensors that are to be multiplied with the input.
    names: Vec<String>,
    /// `[T, N]`
    input: Vec<f32>,
}

/// The controlling end of a window's pass.
struct Pass<'scope> {
    stops: Receiver<Stop>,
    go_on: Sender<()>,
    thread: ScopedJoinHandle<'scope, Result<(), ReferenceError>>,
}

/// Receives the tensors that are multiplied with an input, and that input in every window,
/// `[T, N]`.
type AtMatrices<'a> = dyn FnMut(&[String], &[Vec<f32>]) -> Result<()> + 'a;

/// Computes the block for windows `[T, C]` in place. At each of its inputs `at_matrices` is called
/// with the tensors that are multiplied with it and the input in every window, and may replace
/// them.
///
/// # Errors
/// Any error of `at_matrices`, or when the block cannot be computed; the windows are invalid then.
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
            // A pass that panicked is not waiting; the scope passes the panic on.
            for pass in &passes {
                let _ = pass.go_on.send(());
            }
        }
    })
}

impl Pass<'_> {
    /// The result of the pass; a panic in it is passed on.
    fn join(self) -> Result<()> {
        match self.thread.join() {
            Ok(done) => Ok(done?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// One window's pass. If the other side has ended, it runs to its end.
fn run(
    block: &LoadedBlock<'_>,
    window: &mut [f32],
    stopped: &Sender<Stop>,
    go_on: &Receiver<()>,
) -> Result<(), ReferenceError> {
    block.observe(window, &mut |names, input| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        if stopped.send(Stop { names, input: input.to_vec() }).is_ok() {
            // An error means that the other side has stopped.
            let _ = go_on.recv();
        }
    })
}
