//! Importance data: how strongly each column of a matrix is used.
//!
//! A column of `W` is multiplied with one channel `x_j` of the input, so an error in it has the
//! weight `E[x_j²]`. `llama-imatrix` sums `x_j²` over a calibration text for every matrix; the
//! quantizers of ggml use the means as weights of their squared errors.
//!
//! [`mod@file`] reads and writes llama.cpp's GGUF, [`legacy`] reads the older binary format, and
//! [`collect()`] collects such data with the reference forward pass.

mod collect;
mod file;
mod legacy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use gguf::{Metadata, TensorInfo, Value};

pub(crate) use collect::squares;
pub use collect::{ImatrixJob, ImatrixReport, collect};
pub use file::{ImatrixFile, Sums};

/// The longest text that llama.cpp writes as the value of a key.
const LONGEST_TEXT: usize = 127;

/// Importance data of a model, ready to weight errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// The file it came from, as the user wrote it.
    pub path: PathBuf,
    /// The texts that it was made with.
    pub datasets: Vec<String>,
    /// Chunks of text read; 0 if the file does not say.
    pub chunks: u64,
    /// `E[x²]` for each column, by tensor; one row after another if a tensor has experts.
    means: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    /// Reads a file of `llama-imatrix`, in either format, or of `quantize imatrix`.
    ///
    /// # Errors
    /// When the file is neither, is damaged, or holds a value that is negative, infinite or NaN.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let read = || {
            let (file, means) = match legacy::is_legacy(path)? {
                true => legacy::read(path)?,
                false => {
                    let file = ImatrixFile::open(path)?;
                    let means = file.means();
                    (file, means)
                }
            };
            ensure!(!means.is_empty(), "there is no data in it");
            for (name, means) in &means {
                let bad = means.iter().find(|mean| !mean.is_finite() || **mean < 0.0);
                if let Some(bad) = bad {
                    anyhow::bail!("tensor {name}: {bad} as the mean of squares; make it again");
                }
            }
            Ok(Importance {
                path: path.to_owned(),
                datasets: file.datasets,
                chunks: file.chunks,
                means,
            })
        };
        read().with_context(|| format!("cannot read importance data from {}", path.display()))
    }

    /// Data of one tensor, as [`collect()`] would write it to a file.
    pub(crate) fn of_tensor(name: &str, sums: Sums) -> Self {
        let entries = BTreeMap::from([(name.to_owned(), sums)]);
        let file = ImatrixFile { entries, ..ImatrixFile::default() };
        Importance {
            path: PathBuf::from("(the calibration text)"),
            means: file.means(),
            datasets: file.datasets,
            chunks: file.chunks,
        }
    }

    /// The number of tensors with data.
    pub fn len(&self) -> usize {
        self.means.len()
    }

    /// Whether the data is empty.
    pub fn is_empty(&self) -> bool {
        self.means.is_empty()
    }

    /// The weights of the columns of `tensor`: [`TensorInfo::row_len`] of them, or as many for each
    /// of its experts, one after the other. `None` if the tensor has no data.
    ///
    /// # Errors
    /// When the data belongs to a tensor of another width.
    pub fn of(&self, tensor: &TensorInfo) -> anyhow::Result<Option<&[f32]>> {
        let Some(means) = self.means.get(&tensor.name) else { return Ok(None) };
        let experts = tensor.shape.get(2..).unwrap_or_default().iter().product::<u64>() as usize;
        let expected = tensor.row_len().saturating_mul(experts);
        if means.len() != expected && is_embedding(&tensor.name) {
            // An embedding may have been measured as a head of another shape.
            return Ok(None);
        }
        ensure!(
            means.len() == expected,
            "tensor {}: {} holds {} columns of it, not {expected}; it was made with another model",
            tensor.name,
            self.path.display(),
            means.len()
        );
        Ok(Some(means))
    }

    /// Records in the keys of a quantized file which data it was made with, as `llama-quantize`
    /// does.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        let text = |text: &str| Value::String(shortened(text).to_owned());
        let number = |n: u64| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut set = |key: &str, value| metadata.set(format!("quantize.imatrix.{key}"), value);
        set("file", text(&self.path.to_string_lossy()));
        if let Some(dataset) = self.datasets.first() {
            set("dataset", text(dataset));
        }
        set("entries_count", number(self.means.len() as u64));
        if self.chunks > 0 {
            set("chunks_count", number(self.chunks));
        }
    }
}

fn is_embedding(name: &str) -> bool {
    name == "token_embd.weight" || name == "per_layer_token_embd.weight"
}

/// At most [`LONGEST_TEXT`] bytes of `text`, in whole characters.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
