//! Whole files compared with llama.cpp's own quantizer, and refused input.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod imatrix_llama;
mod importance;
mod models;
mod options;
mod oracle;
mod recipes;
mod refusals;
mod split;

use std::path::Path;

use gguf::{GgufFile, Metadata, TensorSource};
use quantize::{QuantizeJob, Recipe, quantize_file};

fn job(input: &Path, output: &Path, recipe: Recipe) -> QuantizeJob {
    QuantizeJob { output: Some(output.to_owned()), ..QuantizeJob::new(input, recipe) }
}

fn refusal(job: &QuantizeJob) -> String {
    cli::one_line(&quantize_file(job).unwrap_err())
}

/// The recipes that need no importance data.
fn plain_recipes() -> Vec<Recipe> {
    Recipe::ALL.into_iter().filter(|recipe| !recipe.needs_importance()).collect()
}

/// Same tensors with the same types and bytes, same keys with the same values, except the keys that
/// name the source of importance data.
fn assert_same_model(what: &str, ours: &Path, theirs: &Path) {
    let (ours, theirs) = (GgufFile::open(ours).unwrap(), GgufFile::open(theirs).unwrap());
    assert!(ours.is_canonical(), "{what}");
    assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{what}");
    for tensor in ours.tensors() {
        let other = theirs.tensor(&tensor.name).unwrap();
        let same = (&tensor.shape, tensor.tensor_type) == (&other.shape, other.tensor_type);
        assert!(same, "{what}: {tensor:?} {other:?}");
        assert!(
            ours.read(tensor).unwrap() == theirs.read(other).unwrap(),
            "{what}: {}",
            tensor.name
        );
    }
    let sorted = |metadata: &Metadata| {
        let mut keys: Vec<_> = metadata
            .iter()
            .filter(|(key, _)| !key.starts_with("quantize.imatrix."))
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys
    };
    assert_eq!(sorted(ours.metadata()), sorted(theirs.metadata()), "{what}");
}
