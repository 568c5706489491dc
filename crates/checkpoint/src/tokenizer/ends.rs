//! The tokens that end a text or an answer.
//!
//! A folder may state several (`eos_token_id` of `generation_config.json`). A GGUF has keys for
//! some of them, and llama.cpp finds others by their names (`special_eog_ids` of
//! `llama-vocab.cpp`). The same rule applies here for every engine, so that a text ends on the
//! device where it ends here.

use super::{SpecialTokens, Vocabulary};

/// Names of tokens that llama.cpp treats as ends, whatever the keys say.
const NAMES: [&str; 33] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Tokens of fill-in-the-middle: padding, the next repository, the next file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Keys of a GGUF besides `eos` whose tokens llama.cpp treats as ends.
const KEYS: [&str; 5] = ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"];

impl Vocabulary {
    /// The ids of all tokens that end a text, in order.
    pub fn ends(&self) -> Vec<u32> {
        let has = |name: &str| self.tokens.iter().any(|token| token == name);
        // Vocabularies in which the token does not end a text.
        let calls = has("<|call|>") || has("<|calls|>");
        let in_text = |name: &str| match name {
            "<|end|>" => calls && (has("<|flush|>") || has("<|return|>")),
            "</s>" => has("<|tool_response>") || has("<|plamo:eos|>"),
            _ => false,
        };
        let named = (0_u32..)
            .zip(&self.tokens)
            .filter(|(_, token)| NAMES.contains(&token.as_str()) && !in_text(token));
        let stated = self.special.eos.into_iter().chain(self.special.more_eos.iter().copied());
        let mut ends: Vec<u32> = named.map(|(id, _)| id).chain(stated).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// Names of keys, without `_token_id`, and the tokens to write there: those that llama.cpp does not
/// find by their names.
pub(super) fn keys(special: &SpecialTokens, tokens: &[String]) -> Vec<(&'static str, u32)> {
    let is_named =
        |id: u32| tokens.get(id as usize).is_some_and(|token| NAMES.contains(&token.as_str()));
    let unnamed = special.more_eos.iter().filter(|id| !is_named(**id));
    KEYS.into_iter().zip(unnamed.copied()).collect()
}

/// The tokens under those keys; `id` reads one by the name of its key.
pub(super) fn read(id: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    KEYS.into_iter().filter_map(id).collect()
}
