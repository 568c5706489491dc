//! The reference of DPO: log-probabilities of all answers under the model that the run starts from.
//!
//! They are computed once, before the first step, so no second model is ever in memory and no pass
//! computes a reference, whether the model itself trains or adapters beside it. `reference.safetensors`
//! in the run folder keeps them, for when the run goes on; a checkpoint records the file's digest.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use burn::tensor::Device;
use checkpoint::{NamedTensor, Weights, hash, write_tensors};
use cli::{Interrupted, Meter, Progress};
use kernels::Pass;
use model::Model;

use crate::corpus::{Corpus, Split};
use crate::evaluate::Reading;

/// The only tensor of the file, `[pairs, 2]`: of the chosen and of the rejected answer of each pair, in
/// the order of the token file, in nats.
const TENSOR: &str = "log_probabilities";

/// The log-probabilities of the answers of all pairs.
pub struct Reference {
    /// `[pairs, 2]`
    log_probabilities: Vec<f32>,
    digest: String,
}

impl Reference {
    /// Computes those of all pairs of `corpus` under `model`, and keeps them at `path`.
    ///
    /// # Errors
    /// [`Interrupted`], or when the tokens cannot be read or the file cannot be written.
    pub fn compute(
        model: &Model,
        corpus: &Corpus,
        reading: &Reading<'_>,
        device: &Device,
        path: &Path,
    ) -> anyhow::Result<Self> {
        let model = model.without_graph();
        let pass = Pass { precision: reading.precision, ..Pass::default() };
        let mut found = vec![0.0; 2 * corpus.pairs()];
        let progress = Progress::new("reference", corpus.pairs() as u64, Meter::Items);
        for split in [Split::Train, Split::Validation] {
            let indices: Vec<usize> = (0..corpus.windows(split)).collect();
            for indices in indices.chunks(reading.batch_size) {
                if reading.interrupt.requested() {
                    return Err(Interrupted.into());
                }
                let batch = corpus.batch(split, indices)?;
                let rows = batch.pairs.as_ref().context("a batch without pairs")?;
                let input = batch.on(&device.clone().inner());
                let sums = model.log_probabilities(input, &rows.trained, pass);
                for (&pair, sums) in rows.numbers.iter().zip(sums.chunks_exact(2)) {
                    for (side, &sum) in sums.iter().enumerate() {
                        found[2 * pair + side] = sum as f32;
                    }
                }
                progress.advance(indices.len() as u64);
            }
        }
        progress.finish();
        Self::keep(found, path)
    }

    fn keep(log_probabilities: Vec<f32>, path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        let shape = vec![log_probabilities.len() / 2, 2];
        let tensor = NamedTensor { name: TENSOR.to_owned(), shape, data: log_probabilities };
        let mut tensors = vec![tensor];
        write_tensors(path, &tensors)?;
        let log_probabilities = tensors.swap_remove(0).data;
        Ok(Reference { log_probabilities, digest: digest(path)? })
    }

    /// Reads those that a run began with, whose digest its last checkpoint has recorded.
    ///
    /// # Errors
    /// When the file is missing, is another one, or has another number of pairs.
    pub fn open(path: &Path, before: &str, pairs: usize) -> anyhow::Result<Self> {
        let name = path.display();
        let way_out = "put it back as it was, or start over with --force";
        let digest = digest(path).with_context(|| {
            format!("a run that learns from pairs goes on with {name}: {way_out}")
        })?;
        ensure!(digest == before, "{name} is not the file that this run began with: {way_out}");
        let weights = Weights::open(path)?;
        let log_probabilities = weights.read_f32(TENSOR)?;
        ensure!(
            weights.shape(TENSOR)? == [pairs, 2],
            "{name} has the shape {:?}, expected [{pairs}, 2]: {way_out}",
            weights.shape(TENSOR)?
        );
        Ok(Reference { log_probabilities, digest })
    }

    /// BLAKE3 of the file.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Those of the pairs with the given numbers, of the chosen and of the rejected answer in turn.
    pub fn of(&self, pairs: &[usize]) -> Vec<f32> {
        pairs
            .iter()
            .flat_map(|&pair| [0, 1].map(|side| self.log_probabilities[2 * pair + side]))
            .collect()
    }
}

fn digest(path: &Path) -> anyhow::Result<String> {
    let digests = hash::hash_file(path);
    Ok(digests.with_context(|| format!("cannot read {}", path.display()))?.blake3)
}
