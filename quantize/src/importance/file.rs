//! llama.cpp's file of importance data: a GGUF with two tensors for each matrix.
//!
//! ```text
//! general.type        = "imatrix"
//! imatrix.datasets    = texts, by their paths
//! imatrix.chunk_count = chunks of text read
//! imatrix.chunk_size  = tokens in a chunk
//!
//! NAME.in_sum2  [experts, in]   Σ x², F32
//! NAME.counts   [experts, 1]    inputs summed, F32
//! ```
//!
//! After `IMatrixCollector::save_imatrix` and `common_imatrix_load` of llama.cpp.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use checkpoint::atomic;
use gguf::{Array, GgufFile, Metadata, TensorInfo, TensorSource, TensorType, Value, Writer};

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// The contents of a file of importance data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImatrixFile {
    /// The texts, by their paths.
    pub datasets: Vec<String>,
    /// Chunks of text read.
    pub chunks: u64,
    /// Tokens in a chunk.
    pub chunk_size: u64,
    /// By tensor.
    pub entries: BTreeMap<String, Sums>,
}

/// The summed squares of a matrix's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// Σ x² for each column; one row after another if there are experts.
    pub squares: Vec<f32>,
    /// Inputs that were summed, for each expert.
    pub counts: Vec<f32>,
}

impl Sums {
    /// Empty sums for `matrices` matrices of `width` columns.
    pub(crate) fn new(matrices: usize, width: usize) -> Self {
        Sums { squares: vec![0.0; matrices * width], counts: vec![0.0; matrices] }
    }

    /// Adds the sums of one window of `tokens` inputs, for a matrix without experts.
    pub(crate) fn add(&mut self, squares: &[f64], tokens: usize) {
        self.add_to(0, squares, tokens);
    }

    /// Adds the inputs of matrix `index` in one window: the sums of their squares by column, and
    /// their number.
    pub(crate) fn add_to(&mut self, index: usize, squares: &[f64], inputs: usize) {
        self.counts[index] += inputs as f32;
        let sums = &mut self.squares[index * squares.len()..][..squares.len()];
        for (sum, square) in sums.iter_mut().zip(squares) {
            *sum = (f64::from(*sum) + square) as f32;
        }
    }
}

impl ImatrixFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not a GGUF of importance data, or sums and counts do not match.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = GgufFile::open(path)?;
        let metadata = file.metadata();
        if let Ok(other) = metadata.string(TYPE) {
            ensure!(other == "imatrix", "it is a GGUF of type {other}, not of importance data");
        }
        let mut found = ImatrixFile {
            datasets: metadata.strings(DATASETS)?.to_vec(),
            chunks: metadata.unsigned(CHUNK_COUNT)?,
            chunk_size: metadata.unsigned(CHUNK_SIZE)?,
            entries: BTreeMap::new(),
        };
        for tensor in file.tensors() {
            if let Some(name) = tensor.name.strip_suffix(SUMS) {
                let counts = file.tensor(&format!("{name}{COUNTS}"))?;
                let sums = Sums { squares: floats(&file, tensor)?, counts: floats(&file, counts)? };
                let (squares, experts) = (sums.squares.len(), sums.counts.len());
                ensure!(
                    squares.is_multiple_of(experts),
                    "tensor {name}: {squares} sums and {experts} counts do not belong together"
                );
                found.entries.insert(name.to_owned(), sums);
            } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
                file.tensor(&format!("{name}{SUMS}"))?;
            }
        }
        Ok(found)
    }

    /// `E[x²]` for each column, by tensor; 1 for an expert that did not receive a token.
    pub fn means(&self) -> BTreeMap<String, Vec<f32>> {
        let means = |sums: &Sums| {
            let width = sums.squares.len() / sums.counts.len();
            let rows = sums.squares.chunks_exact(width.max(1)).zip(&sums.counts);
            rows.flat_map(|(row, count)| {
                let count = count.round();
                row.iter().map(move |square| if count > 0.0 { square / count } else { 1.0 })
            })
            .collect()
        };
        self.entries.iter().map(|(name, sums)| (name.clone(), means(sums))).collect()
    }

    /// Writes a file that `llama-imatrix` and `llama-quantize` read, with the additional keys
    /// `more`.
    ///
    /// # Errors
    /// When the file exists and may not be replaced, or cannot be written.
    pub fn write(
        &self,
        path: &Path,
        overwrite: bool,
        more: &[(&str, Value)],
    ) -> anyhow::Result<()> {
        let mut metadata = Metadata::new();
        metadata.set(TYPE, Value::String("imatrix".to_owned()));
        metadata.set(DATASETS, Value::Array(Array::String(self.datasets.clone())));
        metadata.set(CHUNK_COUNT, Value::U32(u32::try_from(self.chunks)?));
        metadata.set(CHUNK_SIZE, Value::U32(u32::try_from(self.chunk_size)?));
        for (key, value) in more {
            metadata.set(*key, value.clone());
        }
        let mut tensors = Vec::new();
        for (name, sums) in &self.entries {
            let experts = sums.counts.len() as u64;
            let width = sums.squares.len() as u64 / experts;
            let mut add = |part: &str, row: u64| {
                tensors.push((format!("{name}{part}"), vec![row, experts], TensorType::F32));
            };
            add(SUMS, width);
            add(COUNTS, 1);
        }
        atomic::write_file(path, overwrite, |out| {
            let mut writer = Writer::new(out, &metadata, &tensors)?;
            for (name, sums) in &self.entries {
                for (part, values) in [(SUMS, &sums.squares), (COUNTS, &sums.counts)] {
                    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                    writer.write_tensor(&format!("{name}{part}"), &bytes)?;
                }
            }
            writer.finish()?;
            Ok::<_, anyhow::Error>(())
        })
    }
}

fn floats(file: &GgufFile, tensor: &TensorInfo) -> anyhow::Result<Vec<f32>> {
    let found = tensor.tensor_type;
    ensure!(found == TensorType::F32, "tensor {}: expected F32, found {found}", tensor.name);
    Ok(gguf::read_f32(file, tensor)?)
}
