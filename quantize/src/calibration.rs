//! The calibration text: the model reads it while the inputs of its matrices are measured.

use std::path::Path;

use anyhow::{Context, ensure};
use config::RunFile;
use data::{Split, TokenFile, Tokenizer, perplexity_tokens, perplexity_windows};
use gguf::Metadata;

/// Largest text that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 30;

/// A text as windows of tokens, as `llama-imatrix` divides it: consecutive windows, without the
/// rest that does not fill one. If the model has a token that begins a text, it replaces the first
/// token of each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    /// `[windows][context]`
    pub windows: Vec<Vec<u32>>,
    /// Tokens in a window.
    pub context: usize,
}

impl Calibration {
    /// Reads `text` with the tokenizer in `metadata` or, for a checkpoint, in its folder.
    ///
    /// A window has `context` tokens, or as many as the model can read if that is fewer; at most
    /// `tokens` are used.
    ///
    /// # Errors
    /// When the text cannot be read or does not fill a window, or the model does not have a
    /// tokenizer.
    pub fn read(
        text: &Path,
        metadata: &Metadata,
        folder: Option<&Path>,
        context: usize,
        tokens: Option<usize>,
    ) -> anyhow::Result<Self> {
        let tokenizer = match folder {
            Some(folder) => Tokenizer::from_folder(folder)?,
            None => Tokenizer::from_gguf(metadata)
                .context("the model's own tokenizer cannot be used")?,
        };
        let words = checkpoint::read_text(text, TEXT_LIMIT)
            .with_context(|| format!("cannot read {} as UTF-8", text.display()))?;
        let architecture = metadata.string("general.architecture")?;
        let limit = metadata.unsigned(&format!("{architecture}.context_length"))? as usize;
        let context = context.min(limit);
        ensure!(context > 0, "a context of 0 tokens: expected at least 1");

        let mut ids = perplexity_tokens(&tokenizer, &words)?;
        ids.truncate(tokens.unwrap_or(usize::MAX));
        let windows = perplexity_windows(&ids, context, tokenizer.begin_of_text());
        ensure!(
            !windows.is_empty(),
            "{}: {} tokens do not fill a window of {context}; take a longer text",
            text.display(),
            ids.len()
        );
        Ok(Calibration { windows, context })
    }

    /// The tokens that a run trained on, in windows spread evenly over them: at most `tokens`.
    ///
    /// # Errors
    /// When the run folder has no token file or no settings, or the run trained on less than a
    /// window.
    pub fn of_run(run: &Path, context: usize, tokens: usize) -> anyhow::Result<Self> {
        let settings = RunFile::load(&run.join("config.toml"), &[])?;
        let file = TokenFile::open(&run.join("tokens.bin"))?;
        let trained = Split::new(file.len(), settings.data.train_fraction).train;
        let context = context.min(settings.model.context_length);
        ensure!(
            context > 0 && trained.len() >= context,
            "{}: {} tokens of training do not fill a window of {context}",
            run.display(),
            trained.len()
        );
        let window = |i: usize| {
            let start = trained.start + i * context;
            file.get(start..start + context)
        };
        let places = spread(trained.len() / context, tokens / context);
        Ok(Calibration { windows: places.map(window).collect(), context })
    }

    /// Keeps windows spread evenly over the text, with at most `tokens` tokens in total.
    pub fn thinned(self, tokens: usize) -> Self {
        let places = spread(self.windows.len(), tokens / self.context);
        Calibration { windows: places.map(|i| self.windows[i].clone()).collect(), ..self }
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.windows.len() * self.context
    }
}

/// At most `count` of the numbers below `of` (but at least one, if `of` is not 0), spread evenly.
fn spread(of: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.max(1).min(of);
    (0..count).map(move |i| i * of / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_spread_over_the_whole_text() {
        let places = |of, count| spread(of, count).collect::<Vec<_>>();
        assert_eq!(places(10, 3), [0, 3, 6]);
        assert_eq!(places(3, 10), [0, 1, 2]);
        assert_eq!(places(5, 0), [0]);
        assert!(places(0, 4).is_empty());
        let windows = (0..8).map(|i| vec![i; 4]).collect();
        let thinned = Calibration { windows, context: 4 }.thinned(9);
        assert_eq!(thinned.windows, [vec![0; 4], vec![4; 4]]);
        assert_eq!(thinned.tokens(), 8);
    }
}
