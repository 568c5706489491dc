//! Token windows and their logits from the model of training: every later form of the model is
//! compared with them.

use std::borrow::Cow;
use std::path::Path;

use safetensors::Dtype;

use crate::store::{self, Entry, Values};
use crate::{CheckpointError, Weights};

/// `W` windows of `T` tokens, and logits over `V` tokens at every position.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// `[W, T]`
    pub tokens: Vec<u32>,
    /// `[W, T, V]`
    pub logits: Vec<f32>,
    /// `W`
    pub windows: usize,
    /// `T`
    pub context: usize,
    /// `V`
    pub vocab_size: usize,
}

impl Golden {
    /// Tokens and logits of window `w`: `[T]` and `[T, V]`.
    pub fn window(&self, w: usize) -> (&[u32], &[f32]) {
        let (t, v) = (self.context, self.vocab_size);
        (&self.tokens[w * t..(w + 1) * t], &self.logits[w * t * v..(w + 1) * t * v])
    }

    /// Writes `golden.safetensors`: `tokens` as U32 and `logits` as F32.
    ///
    /// # Errors
    /// When the lengths do not match the sizes, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        self.check(path)?;
        let (w, t, v) = (self.windows, self.context, self.vocab_size);
        let entry = |name: &str, dtype, shape| Entry { name: name.to_owned(), dtype, shape };
        let entries =
            [entry("tokens", Dtype::U32, vec![w, t]), entry("logits", Dtype::F32, vec![w, t, v])];
        store::write(path, &entries, |entry| {
            Ok(match entry.name.as_str() {
                "tokens" => Values::U32(&self.tokens),
                _ => Values::F32(Cow::Borrowed(&self.logits)),
            })
        })
    }

    /// Reads what [`Golden::save`] wrote.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or type, or a token is not in the vocabulary.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let weights = Weights::open(path)?;
        let refuse = |reason: String| CheckpointError::Content { path: path.to_owned(), reason };
        let shape = weights.shape("logits")?;
        let &[windows, context, vocab_size] = shape else {
            return Err(refuse(format!("logits has shape {shape:?}, expected [W, T, V]")));
        };
        let tokens_shape = weights.shape("tokens")?;
        if tokens_shape != [windows, context] || weights.dtype("tokens")? != Dtype::U32 {
            return Err(refuse(format!(
                "tokens has shape {tokens_shape:?} and type {}, expected [{windows}, {context}] U32",
                weights.dtype("tokens")?
            )));
        }
        let tokens = weights
            .bytes("tokens")?
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let logits = weights.read_f32("logits")?;
        let golden = Golden { tokens, logits, windows, context, vocab_size };
        golden.check(path)?;
        Ok(golden)
    }

    fn check(&self, path: &Path) -> Result<(), CheckpointError> {
        let refuse =
            |reason: String| Err(CheckpointError::Content { path: path.to_owned(), reason });
        let positions = self.windows.checked_mul(self.context);
        let logits = positions.and_then(|n| n.checked_mul(self.vocab_size));
        if positions != Some(self.tokens.len()) || logits != Some(self.logits.len()) {
            return refuse(format!(
                "{} tokens and {} logits, expected {} windows of {} tokens, vocabulary {}",
                self.tokens.len(),
                self.logits.len(),
                self.windows,
                self.context,
                self.vocab_size
            ));
        }
        match self.tokens.iter().find(|&&token| token as usize >= self.vocab_size) {
            Some(token) => {
                refuse(format!("token {token} is not in the vocabulary of {}", self.vocab_size))
            }
            None => Ok(()),
        }
    }
}
