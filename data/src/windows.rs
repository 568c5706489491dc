//! Sliding windows over a token file, the split into training and validation, and the windows for
//! evaluating on a text.

use std::ops::Range;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{TokenFile, Tokenizer};

/// The tokens for training and for validation: two consecutive ranges of positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Positions for training.
    pub train: Range<usize>,
    /// Positions for validation.
    pub validation: Range<usize>,
}

impl Split {
    /// The first `train_fraction` of `len` tokens (rounded down, as nanoGPT does) and the rest.
    pub fn new(len: usize, train_fraction: f64) -> Self {
        let middle = ((len as f64 * train_fraction) as usize).min(len);
        Split { train: 0..middle, validation: middle..len }
    }
}

/// One window as a model reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// The tokens `[T]`.
    pub inputs: Vec<u32>,
    /// The positions whose predictions train `[M]`; all if `None`.
    pub trained: Option<Vec<u32>>,
    /// The token behind each position that trains `[M]`.
    pub targets: Vec<u32>,
    /// Where the document of each position begins `[T]`; `None` if the window is one document.
    pub documents: Option<Vec<u32>>,
}

/// Windows of `context` tokens, each `stride` tokens after the one before, and their targets.
///
/// A window needs one token more than it has inputs, because the target of each position is the
/// token that follows. Tokens at the end that do not fill a window are not used (Raschka, 2024,
/// `GPTDatasetV1`): there are `ceil((n - context) / stride)` windows in `n` tokens.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    tokens: &'a TokenFile,
    range: Range<usize>,
    context: usize,
    stride: usize,
    separate: bool,
}

impl<'a> Windows<'a> {
    /// The windows of the tokens in `range`.
    ///
    /// # Errors
    /// When `range` is not in the file, or is shorter than one window; with the numbers.
    pub fn new(
        tokens: &'a TokenFile,
        range: Range<usize>,
        context: usize,
        stride: usize,
    ) -> Result<Self> {
        ensure!(context >= 1 && stride >= 1, "context {context}, stride {stride}: both at least 1");
        ensure!(
            range.start <= range.end && range.end <= tokens.len(),
            "tokens {} to {} of a file of {}",
            range.start,
            range.end,
            tokens.len()
        );
        ensure!(
            range.len() > context,
            "text shorter than one window: {} tokens at positions {} to {}, but a window of \
             context {context} needs {}; take a longer text or a smaller data.context",
            range.len(),
            range.start,
            range.end,
            context + 1
        );
        Ok(Windows { tokens, range, context, stride, separate: false })
    }

    /// The same windows as documents that are read one by one: a window says where each begins, and
    /// the first token of a document is nobody's target.
    #[must_use]
    pub fn separate(self) -> Self {
        Windows { separate: true, ..self }
    }

    /// Number of windows, at least 1.
    pub fn len(&self) -> usize {
        (self.range.len() - self.context).div_ceil(self.stride)
    }

    /// Always false: there is at least one window.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens from the start of one window to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Window `index`: its targets are its inputs one position later.
    ///
    /// # Panics
    /// As for a slice, when `index` is not below [`Windows::len`].
    pub fn get(&self, index: usize) -> Window {
        assert!(index < self.len(), "window {index} of {}", self.len());
        let start = self.range.start + index * self.stride;
        let inputs = self.tokens.get(start..start + self.context + 1);
        let targets = inputs[1..].to_vec();
        let mut inputs = inputs;
        inputs.truncate(self.context);
        let window = Window { inputs, targets, trained: None, documents: None };
        if self.separate { self.separated(window, start) } else { window }
    }

    /// `window`, which begins at token `start`, with the documents in it.
    fn separated(&self, window: Window, start: usize) -> Window {
        let mut document = self.tokens.document_at(start);
        let mut range = self.tokens.document(document);
        let mut begins = 0;
        let mut documents = Vec::with_capacity(self.context);
        let (mut trained, mut targets) = (Vec::new(), Vec::new());
        for (at, &target) in window.targets.iter().enumerate() {
            while start + at >= range.end {
                document += 1;
                range = self.tokens.document(document);
                begins = at;
            }
            documents.push(begins as u32);
            if start + at + 1 < range.end {
                trained.push(at as u32);
                targets.push(target);
            }
        }
        Window { targets, trained: Some(trained), documents: Some(documents), ..window }
    }

    /// Positions of window `index` that train.
    pub fn trained(&self, index: usize) -> usize {
        if self.separate { self.get(index).targets.len() } else { self.context }
    }
}

/// The tokens of a text as in `llama-perplexity` and `llama-imatrix`: with the token that begins a
/// text first, if the model was trained with it.
///
/// # Errors
/// When the tokenizer has no token for a part of the text.
pub fn perplexity_tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens: Vec<u32> = tokenizer.begin_of_text().into_iter().collect();
    tokens.extend(tokenizer.encode_parallel(text)?);
    Ok(tokens)
}

/// Divides `tokens` into windows of `context`, as `llama-perplexity` and `llama-imatrix` do
/// (`tools/perplexity/perplexity.cpp`): consecutive windows without the rest. The first token of
/// each is replaced by `begin`, the one that begins a text, if there is one.
///
/// # Panics
/// When `context` is 0.
pub fn perplexity_windows(tokens: &[u32], context: usize, begin: Option<u32>) -> Vec<Vec<u32>> {
    let mut windows: Vec<Vec<u32>> = tokens.chunks_exact(context).map(<[u32]>::to_vec).collect();
    if let Some(begin) = begin {
        windows.iter_mut().for_each(|window| window[0] = begin);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_as_a_text_does_and_the_rest_is_left_out() {
        let tokens = [9, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(perplexity_windows(&tokens, 3, Some(9)), [[9, 1, 2], [9, 4, 5]]);
        assert_eq!(perplexity_windows(&tokens, 3, None), [[9, 1, 2], [3, 4, 5]]);
        assert!(perplexity_windows(&tokens, 9, Some(9)).is_empty());
    }
}
