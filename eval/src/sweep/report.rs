//! The report of a sweep: one row for each file and cache.

use serde::{Deserialize, Serialize};

use super::probe::Speed;
use super::variant::FileRole;
use crate::metrics::Agreement;
use crate::report::Engine;

/// Identifies the file among other JSON.
pub const FORMAT: &str = "pocketgpt.sweep";
/// Raised when a reader of the previous version would misread the file.
pub const VERSION: u32 = 1;

/// A table of variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepReport {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that measured.
    pub program: String,
    /// The tokens that all passes read.
    pub text: SweepText,
    /// The engine that computed.
    pub engine: Engine,
    /// Threads that computed.
    pub threads: usize,
    /// Bytes of the stored logits that all passes were compared with.
    pub base_bytes: u64,
    /// The base first, then the files in the order they were given, each with every cache.
    pub rows: Vec<Row>,
}

/// The source of the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepText {
    /// A file name.
    pub source: String,
    /// Number of windows.
    pub windows: usize,
    /// Tokens in one window.
    pub context: usize,
    /// Positions that were scored, in all windows together.
    pub scored: usize,
}

/// One file with one cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name in the table.
    pub label: String,
    /// `F32`, `Q4_K_M`, ...
    pub recipe: String,
    /// Name of the file.
    pub file: String,
    /// SHA-256 of the file; of the first file if the model has several.
    pub sha256: String,
    /// The role of the file.
    pub role: FileRole,
    /// The types of keys and values, as llama.cpp spells them.
    pub cache: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Bits per weight, on average.
    pub bits_per_weight: f64,
    /// The comparison with the base; none if a logit was not finite.
    pub quality: Option<Agreement>,
    /// The logit that was not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its mean divergence over that of a file of the same recipe and cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_ratio: Option<KlRatio>,
    /// Whether no other evaluated file is both smaller and nearer to the base.
    pub pareto: bool,
    /// Times and memory in llama.cpp; none if they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Why they are missing although they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_problem: Option<String>,
    /// Bytes of keys and values of a window, computed from the model's shape; none for the
    /// reference, which does not use a cache of llama.cpp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
}

/// A mean divergence divided by another one, at the same positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KlRatio {
    /// Label of the file in the denominator.
    pub peer: String,
    /// The ratio; below 1 is better than the peer.
    pub value: f64,
    /// Its error bar.
    pub error: f64,
}

impl SweepReport {
    /// The row of the base that all others are compared with.
    pub fn base(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == FileRole::Base)
    }

    /// Returns logits that are not finite as an error that ends a command with exit code 1.
    ///
    /// # Errors
    /// [`cli::GateFailed`] with one line for each such row.
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        let missed: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| Some(format!("{}: {}", row.label, row.problem.as_ref()?)))
            .collect();
        if missed.is_empty() { Ok(()) } else { Err(cli::GateFailed { missed }) }
    }
}

/// Marks the rows for which no other row is better in both size and mean divergence. Only rows of
/// the first cache count, since a cache does not change a file; the base does not count.
pub fn mark_front(rows: &mut [Row]) {
    let Some(cache) = rows.first().map(|row| row.cache.clone()) else { return };
    let point = |row: &Row| {
        let judged = row.role != FileRole::Base && row.cache == cache;
        let quality = row.quality.as_ref().filter(|_| judged)?;
        Some((row.file_bytes, quality.kl.mean))
    };
    let points: Vec<Option<(u64, f64)>> = rows.iter().map(point).collect();
    for (row, own) in rows.iter_mut().zip(&points) {
        row.pareto = own.is_some_and(|(bytes, kl)| {
            !points.iter().flatten().any(|&(other_bytes, other_kl)| {
                let no_worse = other_bytes <= bytes && other_kl <= kl;
                no_worse && (other_bytes < bytes || other_kl < kl)
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, role: &str, cache: &str, bytes: u64, kl: Option<f64>) -> Row {
        let quality = kl.map(|kl| {
            serde_json::json!({
                "positions": 9, "top1_agreement": 1.0, "base_perplexity": 2.0, "perplexity": 2.0,
                "kl": {"mean": kl, "median": kl, "p99": kl, "max": kl},
            })
        });
        let row = serde_json::json!({
            "label": label, "recipe": "Q4_0", "file": "a.gguf", "sha256": "", "role": role,
            "cache": cache, "file_bytes": bytes, "tensor_bytes": bytes, "parameters": 1,
            "bits_per_weight": 4.5, "quality": quality, "pareto": false,
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn the_front_is_what_nothing_beats() {
        let mut rows = [
            row("base", "base", "f16", 1000, Some(0.0)),
            row("large, near", "variant", "f16", 500, Some(0.001)),
            row("small, far", "peer", "f16", 100, Some(0.5)),
            row("beaten in both", "variant", "f16", 200, Some(0.6)),
            row("equal size, farther", "variant", "f16", 100, Some(0.51)),
            row("its twin", "variant", "f16", 100, Some(0.5)),
            row("between", "variant", "f16", 300, Some(0.01)),
            row("larger than between, as near", "variant", "f16", 301, Some(0.01)),
            row("not finite", "variant", "f16", 1, None),
            row("other cache", "variant", "q8_0", 90, Some(0.0001)),
        ];
        mark_front(&mut rows);
        let front: Vec<&str> =
            rows.iter().filter(|row| row.pareto).map(|row| row.label.as_str()).collect();
        assert_eq!(front, ["large, near", "small, far", "its twin", "between"]);
        mark_front(&mut []);
    }
}
