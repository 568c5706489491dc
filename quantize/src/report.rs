//! The report of a quantization.

use std::fmt;
use std::path::PathBuf;

use gguf::{TensorInfo, TensorType};
use serde::Serialize;

use crate::plan::{Fallback, FilePlan};
use crate::search::Verdict;
use crate::{Calibration, Importance, Recipe};

/// Sizes, types and times of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The input.
    pub input: PathBuf,
    /// The file written.
    pub output: PathBuf,
    /// The recipe that was used.
    pub recipe: Recipe,
    /// The plan that was made for a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// The search for codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// Bytes of the input as a GGUF.
    pub bytes_before: u64,
    /// Bytes of the output.
    pub bytes_after: u64,
    /// Number of weights.
    pub weights: u64,
    /// The number of tensors of each type in the output, largest share first.
    pub types: Vec<TypeReport>,
    /// Tensors whose type differs from the one that the recipe chose.
    pub fallbacks: Vec<Fallback>,
    /// The importance data that errors were weighted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceReport>,
    /// Every tensor, in file order.
    pub tensors: Vec<TensorReport>,
    /// Wall time.
    pub seconds: f64,
    /// Peak resident memory of the process, including mapped pages of the input, if the system
    /// reports it.
    pub peak_resident_bytes: Option<u64>,
    /// Peak memory without mapped files, sampled once for each tensor.
    pub peak_anonymous_bytes: Option<u64>,
}

/// A plan made for a target size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// The file of the plan, for `--plan`.
    pub path: PathBuf,
    /// KL divergence that its types are expected to add without a search, in nats.
    pub divergence: f64,
}

/// A search for codes whose errors compensate each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchReport {
    /// Windows of calibration text.
    pub windows: usize,
    /// Tokens in each.
    pub context: usize,
    /// Tokens of them that were not used to fit, and on which the search was evaluated.
    pub held_tokens: usize,
    /// Mean KL divergence on these from the original model, in nats, with the search.
    pub divergence: f64,
    /// The same with every tensor rounded, errors weighted with importance data of the same text.
    pub rounded_divergence: f64,
    /// Whether the file holds the result of the search; false if rounded weights predict better.
    pub used: bool,
    /// Tensors of it that are rounded nevertheless, since the search was not better for them.
    pub rounded: Vec<String>,
}

impl SearchReport {
    pub(crate) fn new(calibration: &Calibration, verdict: Verdict) -> Self {
        SearchReport {
            windows: calibration.windows.len(),
            context: calibration.context,
            held_tokens: verdict.held_tokens,
            divergence: verdict.divergence,
            rounded_divergence: verdict.rounded_divergence,
            used: verdict.holds(),
            rounded: verdict.rounded,
        }
    }

    /// Fails if the search made the model worse.
    fn check(&self) -> Result<(), cli::GateFailed> {
        let SearchReport { used, divergence, rounded_divergence, held_tokens, .. } = self;
        if *used {
            return Ok(());
        }
        let missed = format!(
            "the search ends at a mean KL divergence of {divergence:.6} nats on {held_tokens} tokens \
             of held-out text, rounding at {rounded_divergence:.6}; the file holds rounded weights: \
             calibrate with more text, or leave the search out with --no-search"
        );
        Err(cli::GateFailed { missed: vec![missed] })
    }
}

impl fmt::Display for SearchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SearchReport { windows, context, held_tokens, divergence, rounded_divergence, .. } =
            self;
        writeln!(f, "search   on {windows} windows of {context} tokens")?;
        writeln!(
            f,
            "judged   on {held_tokens} of them, held out: mean KL {divergence:.6} nats, rounding \
             {rounded_divergence:.6}{}",
            if self.used { "" } else { "; the file holds rounded weights" }
        )?;
        for tensor in &self.rounded {
            writeln!(f, "rounded  {tensor}: the search was no better on held-out text")?;
        }
        Ok(())
    }
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeReport {
    /// ggml's name of the type.
    #[serde(rename = "type")]
    pub tensor_type: &'static str,
    /// The number of tensors.
    pub tensors: usize,
    /// Bytes of their data.
    pub bytes: u64,
}

/// The importance data of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportanceReport {
    /// The file.
    pub path: PathBuf,
    /// Tensors with data in it.
    pub entries: usize,
    /// Chunks of text that it was made with; 0 if the file does not say.
    pub chunks: u64,
    /// Quantized tensors without data in it: all their columns have the same weight.
    pub without: Vec<String>,
}

impl ImportanceReport {
    pub(crate) fn new(data: &Importance, plan: &FilePlan<'_>) -> anyhow::Result<Self> {
        Ok(ImportanceReport {
            path: data.path.clone(),
            entries: data.len(),
            chunks: data.chunks,
            without: plan.without_importance(data)?,
        })
    }
}

/// The result for one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type in the input.
    pub from: &'static str,
    /// Its type in the output.
    pub to: &'static str,
    /// Bytes of its data in the output.
    pub bytes: u64,
    /// Square root of Σ (w' - w)² / Σ w², if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_rms_error: Option<f64>,
}

impl TensorReport {
    pub(crate) fn new(from: &TensorInfo, to: TensorType, error: Option<f64>) -> Self {
        TensorReport {
            name: from.name.clone(),
            from: from.tensor_type.name(),
            to: to.name(),
            bytes: to.size_of(&from.shape).unwrap_or(0),
            relative_rms_error: error,
        }
    }
}

impl Report {
    /// Bits per weight of the whole file, including the header.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes_after as f64 * 8.0 / self.weights as f64
    }

    /// Whether the search failed.
    ///
    /// # Errors
    /// If the search made the model worse, so that the file holds rounded weights.
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        self.search.as_ref().map_or(Ok(()), SearchReport::check)
    }

    pub(crate) fn by_type(tensors: &[TensorReport]) -> Vec<TypeReport> {
        let mut types: Vec<TypeReport> = Vec::new();
        for tensor in tensors {
            match types.iter_mut().find(|entry| entry.tensor_type == tensor.to) {
                Some(entry) => {
                    entry.tensors += 1;
                    entry.bytes += tensor.bytes;
                }
                None => types.push(TypeReport {
                    tensor_type: tensor.to,
                    tensors: 1,
                    bytes: tensor.bytes,
                }),
            }
        }
        types.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
        types
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "output   {}", self.output.display())?;
        match &self.plan {
            None => writeln!(f, "recipe   {}", self.recipe)?,
            Some(PlanReport { path, divergence }) => writeln!(
                f,
                "recipe   {}, {divergence:.4} nats expected of rounding alone",
                path.display()
            )?,
        }
        match &self.search {
            None => writeln!(f, "search   none, each block is rounded by itself")?,
            Some(search) => search.fmt(f)?,
        }
        writeln!(
            f,
            "size     {} -> {} ({:.1} %), {:.2} bits per weight",
            cli::bytes(self.bytes_before),
            cli::bytes(self.bytes_after),
            self.bytes_after as f64 * 100.0 / self.bytes_before as f64,
            self.bits_per_weight(),
        )?;
        for entry in &self.types {
            let size = cli::bytes(entry.bytes);
            writeln!(f, "{:8} {:4} tensors {size:>10}", entry.tensor_type, entry.tensors)?;
        }
        for Fallback { tensor, wanted, got, row_len, block_len } in &self.fallbacks {
            writeln!(
                f,
                "fallback {tensor}: {got} instead of {wanted}, since {block_len} does not divide \
                 its rows of {row_len}"
            )?;
        }
        if let Some(ImportanceReport { path, entries, without, .. }) = &self.importance {
            writeln!(f, "imatrix  {} with {entries} tensors", path.display())?;
            if !without.is_empty() {
                writeln!(f, "imatrix  no data for {}", without.join(", "))?;
            }
        }
        for tensor in &self.tensors {
            if let Some(error) = tensor.relative_rms_error {
                writeln!(f, "error    {:7.4} %  {:5} {}", error * 100.0, tensor.to, tensor.name)?;
            }
        }
        if let (Some(anonymous), Some(resident)) =
            (self.peak_anonymous_bytes, self.peak_resident_bytes)
        {
            writeln!(
                f,
                "memory   {} at most; {} with mapped pages of the input",
                cli::bytes(anonymous),
                cli::bytes(resident)
            )?;
        }
        write!(f, "time     {}", cli::seconds(self.seconds))
    }
}
