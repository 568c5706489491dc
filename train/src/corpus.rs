//! The text of a run as batches of token windows.

use std::ops::Range;

use anyhow::Context;
use burn::tensor::{Device, Int, Tensor, TensorData};
use data::{Shuffle, TokenFile, Tokenizer, Windows};
use kernels::Documents;

use crate::folder::RunFolder;

/// One of the two parts of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The first part of the text, for training.
    Train,
    /// The rest.
    Validation,
}

/// The tokens of a run and the windows cut from them.
pub struct Corpus {
    tokenizer: Tokenizer,
    tokens: TokenFile,
    ranges: data::Split,
    context: usize,
    stride: usize,
    is_kept: bool,
}

impl Drop for Corpus {
    /// A run that was refused does not leave tokens behind.
    fn drop(&mut self) {
        if !self.is_kept {
            std::fs::remove_file(self.tokens.path()).ok();
        }
    }
}

impl Corpus {
    /// Encodes the text of a run file into the run folder, next to the tokens of an earlier run;
    /// [`Corpus::keep`] moves them to their final place.
    ///
    /// The text is encoded each time, also when a run is resumed: 65 MB take a second, and the hash
    /// of the tokens shows whether the text has changed. For a moment both files exist.
    ///
    /// # Errors
    /// When the text is missing, is not UTF-8 or holds no token of the vocabulary, has a token
    /// beyond the `rows` of the embedding, or the tokens cannot be written.
    pub fn prepare(
        settings: &config::Data,
        tokenizer: Tokenizer,
        rows: usize,
        folder: &RunFolder,
    ) -> anyhow::Result<Self> {
        let path = folder.new_tokens();
        let text = data::Corpus::of_run_file(settings)?;
        data::encode_file(&text, &tokenizer, &path, true)?;
        let tokens = TokenFile::open(&path)?;
        let ranges = data::Split::new(tokens.len(), settings.train_fraction);
        let (context, stride) = (settings.context, settings.stride());
        let corpus = Corpus { tokenizer, tokens, ranges, context, stride, is_kept: false };
        if corpus.tokenizer.vocab_size() > rows {
            corpus.check_rows(rows)?;
        }
        Ok(corpus)
    }

    /// A tokenizer may have more tokens than the model has rows if the text does not use them.
    fn check_rows(&self, rows: usize) -> anyhow::Result<()> {
        const CHUNK: usize = 1 << 20;
        for start in (0..self.tokens.len()).step_by(CHUNK) {
            let ids = self.tokens.get(start..self.tokens.len().min(start + CHUNK));
            self.tokenizer.check_rows(&ids, rows).context("data.path")?;
        }
        Ok(())
    }

    /// Moves the tokens to their place in the run folder.
    ///
    /// # Errors
    /// When they cannot be moved.
    pub fn keep(&mut self, folder: &RunFolder) -> anyhow::Result<()> {
        let path = folder.tokens();
        std::fs::rename(self.tokens.path(), &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.is_kept = true;
        self.tokens = TokenFile::open(&path)?;
        Ok(())
    }

    /// The tokenizer that encoded the text.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Hash of the tokens, in hexadecimal.
    pub fn tokens_hash(&self) -> String {
        self.tokens.hash()
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Windows in a split; 0 if it is shorter than one window.
    pub fn windows(&self, split: Split) -> usize {
        self.cut(split).map_or(0, |windows| windows.len())
    }

    /// The windows at the positions `places` of the random order of an epoch.
    pub fn shuffled(&self, seed: u64, epoch: u64, places: Range<usize>) -> Vec<usize> {
        let shuffle = Shuffle::new(seed, epoch, self.windows(Split::Train));
        places.map(|place| shuffle.window_at(place)).collect()
    }

    /// The tokens of windows of a split whose predictions train: those that have a target in
    /// [`Corpus::batch`].
    pub fn trained_tokens(&self, _split: Split, windows: &[usize]) -> usize {
        windows.len() * self.context
    }

    /// Several windows of a split as one batch.
    ///
    /// # Errors
    /// When the split has no windows.
    pub fn batch(&self, split: Split, indices: &[usize]) -> anyhow::Result<Batch> {
        let windows = self.cut(split)?;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for &index in indices {
            let (input, target) = windows.get(index);
            inputs.extend(input);
            targets.extend(target);
        }
        let shape = [indices.len(), self.context];
        Ok(Batch { inputs, documents: None, trained: None, targets, shape })
    }

    fn cut(&self, split: Split) -> anyhow::Result<Windows<'_>> {
        let (range, name) = match split {
            Split::Train => (&self.ranges.train, "training"),
            Split::Validation => (&self.ranges.validation, "validation"),
        };
        Windows::new(&self.tokens, range.clone(), self.context, self.stride)
            .with_context(|| format!("{name} split"))
    }
}

/// A batch of windows.
pub struct Batch {
    /// `[B, T]`, row-major.
    pub inputs: Vec<u32>,
    /// `[B, T]`: the position within its row at which the document of each position begins; `None`
    /// if each window is one document.
    pub documents: Option<Vec<u32>>,
    /// Positions `[M]` among the `B * T` whose predictions train; `None` if all do.
    pub trained: Option<Vec<u32>>,
    /// `[M]`: the token that follows at each position that trains.
    pub targets: Vec<u32>,
    /// `B` and `T`.
    pub shape: [usize; 2],
}

impl Batch {
    /// Number of positions whose predictions train, `M`.
    pub fn trained_tokens(&self) -> usize {
        self.targets.len()
    }

    /// The input of a forward pass on a device.
    pub fn on(&self, device: &Device) -> model::Batch {
        let [rows, time] = self.shape;
        let documents = self.documents.as_ref();
        model::Batch {
            tokens: integers(&self.inputs, device).reshape([rows, time]),
            documents: documents.map(|starts| Documents::new(starts.as_slice(), self.shape)),
            trained: self.trained.as_ref().map(|positions| integers(positions, device)),
            targets: integers(&self.targets, device),
        }
    }
}

/// Tokens or positions on a device; vocabularies and batches are far smaller than 2^31.
fn integers(numbers: &[u32], device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i32> = numbers.iter().map(|&number| number as i32).collect();
    let len = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [len]), device)
}
