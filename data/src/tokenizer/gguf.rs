//! The tokenizer that a GGUF file carries in its metadata.

use anyhow::{Context, Result, bail};

use super::Tokenizer;
use super::bpe::Bpe;

impl Tokenizer {
    /// From `tokenizer.ggml.model`, `.pre`, `.tokens` (in order of ids, in GPT-2's byte alphabet)
    /// and `.merges` (each `left right`).
    ///
    /// # Errors
    /// A model or pre-tokenizer other than GPT-2's, by name; tokens that occur twice, a missing
    /// byte, a merge of tokens that the vocabulary does not have.
    pub fn from_gguf_vocabulary(
        model: &str,
        pre: &str,
        tokens: &[String],
        merges: &[String],
    ) -> Result<Self> {
        match model {
            "gpt2" => {}
            "no_vocab" | "none" => bail!(
                "tokenizer.ggml.model is {model:?}: this GGUF has no tokenizer inside; \
                 give the tokenizer.json of the checkpoint that it was made from"
            ),
            _ => bail!(
                "tokenizer.ggml.model is {model:?}; expected \"gpt2\" (byte-level BPE); \
                 llama.cpp can run this file with its own tokenizer"
            ),
        }
        if pre != "gpt-2" {
            bail!(
                "tokenizer.ggml.pre is {pre:?}; expected \"gpt-2\", the only way of cutting text \
                 into words that is built in; llama.cpp can run this file with its own tokenizer"
            );
        }
        let bpe = Bpe::from_merges(tokens, merges).context("the tokenizer in the GGUF metadata")?;
        Ok(Self::from_bpe(bpe))
    }
}
