//! The tokenizer of a run that gives its model another chat template.

use std::path::PathBuf;

use anyhow::ensure;
use config::RunFile;
use data::Tokenizer;
use data::chat::TrainingTemplate;
use tempfile::TempDir;

/// A tokenizer, and the folder whose other files go into each checkpoint beside its
/// `tokenizer.json`.
pub struct RunTokenizer {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it came from, if it has a folder.
    pub folder: Option<PathBuf>,
    /// Holds `folder` if it was made for this run.
    pub made: Option<TempDir>,
}

impl RunTokenizer {
    /// The tokenizer itself, or with the template of `data.chat_template` and the special tokens
    /// that it writes.
    ///
    /// # Errors
    /// When the template cannot be read or is not one, its tokens are new and adapters are
    /// trained, or the files cannot be written.
    pub fn new(
        run_file: &RunFile,
        tokenizer: Tokenizer,
        folder: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let Some(choice) = &run_file.data.chat_template else {
            return Ok(RunTokenizer { tokenizer, folder, made: None });
        };
        let tokens = TrainingTemplate::tokens_of(Some(choice));
        let missing: Vec<&str> =
            tokens.iter().copied().filter(|token| tokenizer.special(token).is_none()).collect();
        ensure!(
            missing.is_empty() || run_file.lora.rank == 0,
            "data.chat_template: {} writes {}, which the tokenizer lacks, and adapters train no \
             embedding: set lora.rank = 0, or use a template whose tokens the model knows",
            choice.display(),
            missing.join(" and ")
        );
        let (tokenizer, made) = TrainingTemplate::install(&tokenizer, folder.as_deref(), choice)?;
        Ok(RunTokenizer { tokenizer, folder: Some(made.path().to_owned()), made: Some(made) })
    }
}
