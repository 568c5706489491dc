//! Every other kind of tokenizer, through Hugging Face's own `tokenizers` crate.

use std::fmt;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};
use checkpoint::{PreTokenizer, TokenType, Vocabulary, VocabularyKind};
use serde_json::{Value, json};

use super::bpe::{MAX_TOKENS, bytes_of};
use super::json::added_token;

/// Words that no vocabulary has: the last character of the last private plane, and a letter of a single
/// manuscript, which no normalizer takes for no text.
const UNHEARD_OF: [&str; 2] = ["\u{10FFFD}", "\u{A66E}"];

/// A loaded `tokenizer.json`.
pub(crate) struct Foreign {
    /// Takes special tokens in a text for text.
    plain: tokenizers::Tokenizer,
    /// Finds them; made when it is first asked for, because it is a copy.
    with_specials: OnceLock<tokenizers::Tokenizer>,
    /// What each token stands for, in order of ids.
    tokens: Vec<Box<[u8]>>,
    /// Whether decoding is joining `tokens`.
    joins: bool,
    /// Whether a text may be cut between a letter and a space.
    cuts: bool,
    /// The file.
    json: String,
}

impl Foreign {
    /// From the text of a `tokenizer.json`, with the vocabulary in it if that is of a known kind.
    pub fn new(json: String, vocabulary: Option<&Vocabulary>) -> Result<Self> {
        let mut plain: tokenizers::Tokenizer =
            json.parse().map_err(|error: tokenizers::Error| anyhow!("{error}"))?;
        plain.set_encode_special_tokens(true);
        // The crate fails only where a model without an unknown token meets what it does not have.
        for word in UNHEARD_OF {
            plain.encode_fast(word, false).map_err(|error| {
                anyhow!(
                    "it has no token for what it does not know, so some texts have none: {error}"
                )
            })?;
        }
        let byte_level =
            vocabulary.filter(|known| matches!(known.kind, VocabularyKind::Bpe { .. }));
        let tokens = match byte_level {
            Some(known) => bytes_of(&known.tokens, |id| is_plain(known.types[id])),
            None => names(&plain)?,
        };
        Ok(Foreign {
            joins: byte_level.is_some(),
            cuts: byte_level.is_some_and(cuts_at_words),
            plain,
            with_specials: OnceLock::new(),
            tokens,
            json,
        })
    }

    /// Byte-level BPE with a way of cutting that only the crate has, from a GGUF.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self> {
        let VocabularyKind::Bpe { pre, merges } = &vocabulary.kind else {
            return Err(anyhow!("only byte-level BPE can be taken from a GGUF in this way"));
        };
        Self::new(byte_level_json(vocabulary, pre, merges).to_string(), Some(vocabulary))
    }

    /// The tokens of a text; special tokens are not looked for.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        extend(&self.plain, text, out);
    }

    /// The tokens of a text, in which special tokens are found.
    pub fn encode_with_specials(&self, text: &str, out: &mut Vec<u32>) {
        let tokenizer = self.with_specials.get_or_init(|| {
            let mut tokenizer = self.plain.clone();
            tokenizer.set_encode_special_tokens(false);
            tokenizer
        });
        extend(tokenizer, text, out);
    }

    /// The bytes that tokens stand for.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        if self.joins {
            let known = ids.iter().filter_map(|&id| self.tokens.get(id as usize));
            return known.flatten().copied().collect();
        }
        self.plain.decode(ids, false).unwrap_or_default().into_bytes()
    }

    /// What each token stands for, in order of ids.
    pub fn tokens(&self) -> &[Box<[u8]>] {
        &self.tokens
    }

    /// The file.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether a text may be cut between a letter and a space: no pattern that is known has a
    /// match there that goes on, and none looks back.
    pub fn cuts_at_words(&self) -> bool {
        self.cuts
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

/// Appends the tokens of a text; that there are some was tried when the file was loaded.
fn extend(tokenizer: &tokenizers::Tokenizer, text: &str, out: &mut Vec<u32>) {
    if let Ok(encoding) = tokenizer.encode_fast(text, false) {
        out.extend_from_slice(encoding.get_ids());
    }
}

/// Tokens that stand for their own spelling.
fn is_plain(kind: TokenType) -> bool {
    kind != TokenType::Normal
}

/// A token with a space behind a letter would be cut in two.
fn cuts_at_words(vocabulary: &Vocabulary) -> bool {
    let named = vocabulary.tokens.iter().zip(&vocabulary.types);
    let mut named = named.filter(|(_, kind)| **kind == TokenType::UserDefined);
    !named.any(|(text, _)| text.trim_start().contains(' '))
}

fn names(tokenizer: &tokenizers::Tokenizer) -> Result<Vec<Box<[u8]>>> {
    let vocabulary = tokenizer.get_vocab(true);
    let count = vocabulary.values().max().map_or(0, |&last| last as usize + 1);
    ensure!(
        count <= MAX_TOKENS,
        "a token has the id {}: expected less than {MAX_TOKENS}",
        count - 1
    );
    let mut names: Vec<Box<[u8]>> = vec![Box::default(); count];
    for (name, id) in vocabulary {
        names[id as usize] = name.into_bytes().into_boxed_slice();
    }
    Ok(names)
}

/// The file that a vocabulary would have been read from.
fn byte_level_json(vocabulary: &Vocabulary, pre: &PreTokenizer, merges: &[String]) -> Value {
    let named = (0_u32..).zip(&vocabulary.tokens).zip(&vocabulary.types);
    let named = named.filter(|(_, kind)| {
        matches!(kind, TokenType::Control | TokenType::UserDefined | TokenType::Unknown)
    });
    let added: Vec<Value> = named
        .map(|((id, text), kind)| added_token(id, text, *kind != TokenType::UserDefined))
        .collect();
    let vocab: serde_json::Map<String, Value> =
        vocabulary.tokens.iter().cloned().zip((0_u32..).map(Value::from)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": pre.definition(), "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignore_merges(), "vocab": vocab, "merges": merges,
        },
    })
}
