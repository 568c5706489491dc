//! The windows of tokens that every pass reads, and the logits that the other passes are compared
//! with.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::{Checkpoint, Weights};
use gguf::Metadata;

/// Largest text that windows are read from, in bytes.
const TEXT_LIMIT: u64 = 1 << 30;

/// Training's own logits for some windows, read one window at a time: `golden.safetensors` of a
/// checkpoint.
pub struct GoldenFile {
    weights: Weights,
    /// `[W][T]`
    pub windows: Vec<Vec<u32>>,
    /// `V`
    pub vocab_size: usize,
}

impl GoldenFile {
    /// Opens the golden windows of the checkpoint at `dir`; `None` if training did not write any.
    ///
    /// # Errors
    /// When `dir` is not a checkpoint, or the windows are damaged or have another vocabulary.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let checkpoint = Checkpoint::open(dir)?;
        let path = dir.join(checkpoint::GOLDEN_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let weights = Weights::open(&path)?;
        let &[count, context, vocab_size] = weights.shape("logits")? else {
            bail!("{}: logits must have the shape [W, T, V]", path.display());
        };
        ensure!(
            weights.shape("tokens")? == [count, context]
                && weights.dtype("tokens")? == checkpoint::Dtype::U32
                && count > 0
                && context > 0,
            "{}: tokens must be U32 of the shape [{count}, {context}], with at least one",
            path.display()
        );
        let expected = checkpoint.config().vocab_size;
        ensure!(
            vocab_size == expected,
            "{}: logits over {vocab_size} tokens, but the checkpoint's vocabulary has {expected}",
            path.display()
        );
        let bytes = weights.bytes("tokens")?;
        let tokens: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        let windows = tokens.chunks_exact(context).map(<[u32]>::to_vec).collect();
        Ok(Some(GoldenFile { weights, windows, vocab_size }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.weights.path()
    }

    /// Burn's logits `[T, V]` for the window at `index`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn logits(&self, index: usize) -> Result<Vec<f32>> {
        let size = self.windows.get(index).map_or(0, Vec::len) * self.vocab_size;
        let mut logits = vec![0.0; size];
        self.weights.read_f32_at("logits", index * size, &mut logits)?;
        Ok(logits)
    }
}

/// A text to take windows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTokens {
    /// UTF-8 text.
    pub path: PathBuf,
    /// Tokens in a window; the model's context, but at most 256, if not given.
    pub context: Option<usize>,
    /// Number of windows, taken from the beginning one after the other.
    pub windows: usize,
}

impl TextTokens {
    /// Tokenizes the text and divides it into windows; a text shorter than a window becomes one
    /// window. If the model was trained with a token that begins a text, each window has it before
    /// its part of the text, and no token of the text is replaced. (The sweep divides as
    /// llama-perplexity does, which replaces one: [`data::perplexity_windows`].)
    ///
    /// # Errors
    /// When the text cannot be read or has fewer than two tokens, or a window is longer than the
    /// model's context.
    pub fn read(
        &self,
        tokenizer: &data::Tokenizer,
        context_length: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let place = || format!("--tokens-from {}", self.path.display());
        let text = checkpoint::read_text(&self.path, TEXT_LIMIT).with_context(place)?;
        let tokens = tokenizer.encode_parallel(&text).with_context(place)?;
        let context = self.context.unwrap_or(context_length.min(256));
        ensure!(
            (1..=context_length).contains(&context),
            "--context {context}: expected from 1 to the model's context of {context_length}"
        );
        ensure!(
            tokens.len() >= 2,
            "{}: {} tokens are too few, at least 2 are needed; give a longer text",
            place(),
            tokens.len()
        );
        let begin: Vec<u32> = tokenizer.begin_of_text().into_iter().collect();
        let room = (context - begin.len()).min(tokens.len());
        ensure!(room > 0, "--context {context}: no room for text behind the token that begins one");
        let windows = tokens.chunks_exact(room).take(self.windows);
        Ok(windows.map(|text| [&begin, text].concat()).collect())
    }
}

/// The tokenizer of the checkpoint, otherwise the one inside the GGUF.
///
/// # Errors
/// When neither has one that this project supports.
pub fn tokenizer(checkpoint: Option<&Path>, metadata: &Metadata) -> Result<data::Tokenizer> {
    if let Some(dir) = checkpoint {
        return data::Tokenizer::from_folder(dir);
    }
    data::Tokenizer::from_gguf(metadata)
        .context("no text can be tokenized for this GGUF: give --checkpoint, which has a tokenizer")
}

/// The logits that the other passes are compared with, in an unnamed temporary file: in memory,
/// every window of a 50,257-token vocabulary would take 51 MB for 256 positions.
pub struct Base {
    file: File,
    windows: Vec<Vec<u32>>,
    vocab_size: usize,
    stored: usize,
}

impl Base {
    /// A store without windows.
    ///
    /// # Errors
    /// When the system cannot create a temporary file.
    pub fn new(windows: Vec<Vec<u32>>, vocab_size: usize) -> Result<Self> {
        let file = tempfile::tempfile().context("no temporary file for logits")?;
        Ok(Base { file, windows, vocab_size, stored: 0 })
    }

    /// The windows, `[W][T]`.
    pub fn windows(&self) -> &[Vec<u32>] {
        &self.windows
    }

    /// `V`
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether the logits of every window are stored.
    pub fn is_complete(&self) -> bool {
        self.stored == self.windows.len()
    }

    /// Appends the logits `[T, V]` of the next window.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn push(&mut self, logits: &[f32]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(logits))
            .with_context(|| format!("cannot keep logits in {}", std::env::temp_dir().display()))?;
        self.stored += 1;
        Ok(())
    }

    /// The logits `[T, V]` of the window at `index`.
    ///
    /// # Errors
    /// When they were not stored, or cannot be read back.
    pub fn logits(&mut self, index: usize) -> Result<Vec<f32>> {
        let positions = |windows: &[Vec<u32>]| windows.iter().map(Vec::len).sum::<usize>();
        let start = 4 * positions(&self.windows[..index]) * self.vocab_size;
        let mut logits = vec![0.0_f32; self.windows[index].len() * self.vocab_size];
        self.file.seek(SeekFrom::Start(start as u64))?;
        self.file
            .read_exact(bytemuck::cast_slice_mut(&mut logits))
            .context("cannot read stored logits back")?;
        Ok(logits)
    }
}
