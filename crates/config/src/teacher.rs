//! `[train.teacher]`: learning another model's predictions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[train.teacher]`: the loss is `share` times the divergence from another model's predictions, and
/// `1 - share` times that of the text (Hinton et al., 2015). One of `model` and `recorded` is given, or
/// both: then `model` is what `train --record` asks, and `recorded` what it writes and training reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Teacher {
    /// A run folder, a checkpoint, a Hugging Face folder or a GGUF, quantized or not, with the
    /// vocabulary of this model. It may be of another family and size; it is computed in f32 or bf16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// A file of a teacher's likeliest tokens at each position that trains, which `train --record`
    /// writes once; no teacher is in memory then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<PathBuf>,
    /// Tokens that are recorded for each position, the likeliest; all others are one outcome.
    pub recorded_tokens: usize,
    /// Both models' logits are divided by it before they are compared, and the divergence is
    /// multiplied by its square.
    pub temperature: f32,
    /// The weight of the teacher: 1 is the teacher alone, 0 the text alone.
    pub share: f32,
}

impl Default for Teacher {
    fn default() -> Self {
        Teacher { model: None, recorded: None, recorded_tokens: 32, temperature: 1.0, share: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::RunFile;

    fn load(text: &str) -> Result<RunFile, String> {
        let text = format!("[train.teacher]\n{text}");
        RunFile::parse(Path::new("a.toml"), &text, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_teacher_is_saved_and_checked() {
        let run_file = load("model = \"big.gguf\"\ntemperature = 2.0\nshare = 0.5").unwrap();
        let saved = run_file.to_toml().unwrap();
        assert_eq!(RunFile::parse(Path::new("a.toml"), &saved, &[]).unwrap(), run_file);
        let model = "model = \"a\"\n";
        for (text, expected) in [
            ("share = 0.5".to_owned(), "train.teacher.model = (nothing): expected a model"),
            (format!("{model}share = 1.5"), "train.teacher.share = 1.5: expected from 0 to 1"),
            (
                format!("{model}temperature = 0.0"),
                "train.teacher.temperature = 0: expected a finite number above 0",
            ),
            (
                format!("{model}recorded_tokens = 0"),
                "train.teacher.recorded_tokens = 0: expected 1 to 4096",
            ),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
