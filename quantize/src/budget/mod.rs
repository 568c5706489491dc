//! Chooses types tensor by tensor, for a file of a given size.
//!
//! `sensitivity` measures the cost of each tensor in each type, `choose` distributes the bytes, and
//! a [`PlanFile`] stores the choice, so that `--plan FILE` repeats it without measuring.

mod choose;
mod file;
mod sensitivity;
mod target;

use std::path::Path;

use anyhow::{Context, Result};
use gguf::{Layout, TensorSource, TensorType};

pub use file::PlanFile;
pub use target::Target;

use crate::{Recipe, Rules};
use choose::{Candidate, choose};
use sensitivity::Sensitivity;

/// A plan, and the KL divergence that it is expected to add, in nats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub plan: PlanFile,
    pub divergence: f64,
    /// Bytes that the target allows.
    pub most_bytes: u64,
}

/// Measures every matrix on `windows` and chooses the types with which the whole file has at most
/// the target's size.
///
/// # Errors
/// When the reference pass does not know the model, when no types make the file small enough, or
/// when `done` returns an error.
pub(crate) fn plan(
    source: &dyn TensorSource,
    target: Target,
    windows: &[Vec<u32>],
    scratch: &Path,
    done: &dyn Fn(&str) -> Result<()>,
) -> Result<Planned> {
    // The choice is among the matrices that any mixture would quantize.
    let matrices = Rules::of(Recipe::Q4_K_M).choose(source.metadata(), source.tensors(), false)?;
    let matrices = source.tensors().iter().zip(matrices);
    let names: Vec<String> = matrices
        .filter(|(tensor, choice)| choice.tensor_type != tensor.tensor_type)
        .map(|(tensor, _)| tensor.name.clone())
        .collect();
    let measured = sensitivity::measure(source, &names, windows, scratch, done)?;
    let alignment = Layout::plan(source.metadata(), &[])?.alignment;
    let candidates: Vec<Vec<Candidate>> = measured
        .iter()
        .map(|sensitivity| candidates(source, sensitivity, alignment))
        .collect::<Result<_>>()?;
    let bytes = target.bytes(source.tensors().iter().map(|tensor| tensor.elements()).sum());
    let rest = bytes_without(source, &candidates)?;
    let chosen = choose(&candidates, bytes.saturating_sub(rest))
        .with_context(|| format!("no types make a file of {bytes} bytes"))?;
    let types = names.iter().map(String::as_str).zip(chosen.iter().map(|c| c.tensor_type));
    Ok(Planned {
        plan: PlanFile::new(types),
        divergence: chosen.iter().map(|candidate| candidate.damage).sum(),
        most_bytes: bytes,
    })
}

/// Size, padded to `alignment`, and damage of each type that a tensor could get.
fn candidates(
    source: &dyn TensorSource,
    sensitivity: &Sensitivity,
    alignment: u64,
) -> Result<Vec<Candidate>> {
    let shape = &source.tensor(&sensitivity.tensor)?.shape;
    let candidates = sensitivity.damage.iter().map(|&(tensor_type, damage)| {
        let size = tensor_type.size_of(shape).context("a tensor too large to count")?;
        Ok(Candidate { tensor_type, bytes: size.next_multiple_of(alignment), damage })
    });
    candidates.collect()
}

/// Bytes of the file without the matrices that types are chosen for.
fn bytes_without(source: &dyn TensorSource, candidates: &[Vec<Candidate>]) -> Result<u64> {
    let mut left = candidates.iter();
    let mut chosen_bytes = 0;
    let matrices = Rules::of(Recipe::Q4_K_M).choose(source.metadata(), source.tensors(), false)?;
    let described: Vec<(String, Vec<u64>, TensorType)> = source
        .tensors()
        .iter()
        .zip(matrices)
        .map(|(tensor, choice)| {
            let first = match choice.tensor_type != tensor.tensor_type {
                true => left.next().and_then(|all| all.first()),
                false => None,
            };
            chosen_bytes += first.map_or(0, |candidate| candidate.bytes);
            let tensor_type = first.map_or(tensor.tensor_type, |candidate| candidate.tensor_type);
            (tensor.name.clone(), tensor.shape.clone(), tensor_type)
        })
        .collect();
    // Space for the keys that record how the file was made.
    const KEYS: u64 = 1024;
    Ok(Layout::plan(source.metadata(), &described)?.file_size + KEYS - chosen_bytes)
}
