//! Every other kind of tokenizer, through Hugging Face's own `tokenizers` crate.

use std::fmt;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use checkpoint::{PreTokenizer, TokenType, Vocabulary, VocabularyKind};
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{
    Model, NormalizedString, OffsetReferential, OffsetType, PreTokenizedString, Token,
};

use super::bpe::bytes_of;
use super::guarded::{self, Patterns};
use super::json::added_token;
use super::{MissingToken, reaches_over_cut};

/// A loaded `tokenizer.json`.
pub(crate) struct Foreign {
    /// Takes special tokens in a text for text.
    plain: tokenizers::Tokenizer,
    /// Finds them; made when it is first asked for, because it is a copy.
    with_specials: OnceLock<tokenizers::Tokenizer>,
    /// Those that may give up on a text.
    patterns: Patterns,
    /// What each token stands for, in order of ids.
    tokens: Vec<Box<[u8]>>,
    /// Whether the vocabulary is of bytes, so that decoding is joining `tokens`.
    of_bytes: bool,
    /// Whether a text may be cut between a letter and a mark that begins a piece.
    cuts: bool,
    /// The file.
    json: String,
}

/// What the crate says names a place in the text only; which parts it holds says more.
fn unreadable(json: &str, error: &anyhow::Error) -> anyhow::Error {
    let file: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let kind = |part: &str| file[part]["type"].as_str().unwrap_or("(none)").to_owned();
    anyhow!(
        "the tokenizers library cannot read this tokenizer.json with model {}, normalizer {}, \
         pre_tokenizer {}: {error:#}",
        kind("model"),
        kind("normalizer"),
        kind("pre_tokenizer"),
    )
}

impl Foreign {
    /// From the text of a `tokenizer.json` and the vocabulary in it.
    pub fn new(json: String, vocabulary: &Vocabulary) -> Result<Self> {
        let file: Value = serde_json::from_str(&json).context("this is no JSON")?;
        let mut plain = guarded::load(&json, &file).map_err(|error| unreadable(&json, &error))?;
        plain.set_encode_special_tokens(true);
        let of_bytes = matches!(vocabulary.kind, VocabularyKind::Bpe { .. });
        Ok(Foreign {
            tokens: bytes_of(&vocabulary.tokens, |id| !of_bytes || is_plain(vocabulary.types[id])),
            of_bytes,
            cuts: of_bytes && cuts_at_words(&plain),
            patterns: Patterns::of(&file)?,
            plain,
            with_specials: OnceLock::new(),
            json,
        })
    }

    /// Byte-level BPE with a way of cutting that only the crate has, from a GGUF.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self> {
        let VocabularyKind::Bpe { pre, merges } = &vocabulary.kind else {
            return Err(anyhow!("only byte-level BPE can be taken from a GGUF in this way"));
        };
        Self::new(byte_level_json(vocabulary, pre, merges).to_string(), vocabulary)
    }

    /// The tokens of a text; special tokens are not looked for.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), MissingToken> {
        self.extend(&self.plain, text, out)
    }

    /// The tokens of a text, in which special tokens are found.
    pub fn encode_with_specials(&self, text: &str, out: &mut Vec<u32>) -> Result<(), MissingToken> {
        self.extend(self.with_specials(), text, out)
    }

    /// The same, and the bytes of `text` that each token was made from.
    pub fn encode_with_places(
        &self,
        text: &str,
    ) -> Result<(Vec<u32>, Vec<std::ops::Range<usize>>), MissingToken> {
        let pieces = self.pieces(self.with_specials(), text)?;
        let found = pieces.into_encoding(None, 0, OffsetType::Byte);
        let found =
            found.map_err(|error| MissingToken { what: format!("it ({error})"), offset: 0 })?;
        let places = found.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok((found.get_ids().to_vec(), places))
    }

    fn with_specials(&self) -> &tokenizers::Tokenizer {
        self.with_specials.get_or_init(|| {
            let mut tokenizer = self.plain.clone();
            tokenizer.set_encode_special_tokens(false);
            tokenizer
        })
    }

    /// Appends the tokens of a text.
    fn extend(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<(), MissingToken> {
        let pieces = self.pieces(tokenizer, text)?;
        let pieces = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        let tokens = pieces.iter().filter_map(|(_, _, tokens)| tokens.as_ref()).flatten();
        out.extend(tokens.map(|token| token.id));
        Ok(())
    }

    /// The pieces of a text with their tokens. The steps are those of `TokenizerImpl::encode`, without the
    /// truncation that a file may ask for (transformers sets it with each call), and with an eye on
    /// what BPE leaves out.
    fn pieces(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
    ) -> Result<PreTokenizedString, MissingToken> {
        let added = tokenizer.get_added_vocabulary();
        // The crate drops what goes wrong in it.
        let normal = self.patterns.check_normalizer(tokenizer.get_normalizer(), text);
        let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        let cut = normal.and_then(|()| match tokenizer.get_pre_tokenizer() {
            Some(pre_tokenizer) => self.patterns.pre_tokenize(pre_tokenizer, &mut pieces),
            None => Ok(()),
        });
        let model = tokenizer.get_model();
        let tokens = cut.and_then(|()| pieces.tokenize(|piece| self.tokenize(model, piece)));
        tokens.map_err(|error| match error.downcast::<MissingToken>() {
            Ok(missing) => *missing,
            Err(error) => MissingToken { what: format!("it ({error})"), offset: 0 },
        })?;
        Ok(pieces)
    }

    /// The tokens of a piece. BPE without an unknown token leaves out what it does not know; the
    /// places of its tokens then end before the piece does.
    fn tokenize(
        &self,
        model: &ModelWrapper,
        piece: &NormalizedString,
    ) -> tokenizers::Result<Vec<Token>> {
        let text = piece.get();
        let tokens = match model.tokenize(text) {
            Ok(tokens) => tokens,
            Err(error) => {
                return Err(self.missing(piece, 0..text.len(), &error.to_string()).into());
            }
        };
        if let ModelWrapper::BPE(bpe) = model
            && tokens.last().map_or(0, |token| token.offsets.1) < text.len()
        {
            let lacking = first_unknown(bpe, text);
            return Err(self.missing(piece, lacking, "").into());
        }
        Ok(tokens)
    }

    /// Names `range` of a piece as the text has it.
    fn missing(
        &self,
        piece: &NormalizedString,
        range: std::ops::Range<usize>,
        reason: &str,
    ) -> MissingToken {
        let letter = piece.get()[range.clone()].to_owned();
        let original = piece.convert_offsets(Range::Normalized(range.clone())).unwrap_or(0..0);
        let shown = piece.get_range_original(Range::Normalized(range)).unwrap_or(&letter);
        let byte = bytes_of(std::slice::from_ref(&letter), |_| !self.of_bytes);
        let what = match (reason, &*byte[0]) {
            ("", [byte]) if self.of_bytes => format!("the byte 0x{byte:02X} of {shown:?}"),
            ("", _) => format!("{shown:?}"),
            _ => format!("{shown:?} ({reason})"),
        };
        MissingToken { what, offset: (piece.offsets_original().0 + original.start) as u64 }
    }

    /// The bytes that tokens stand for.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        if self.of_bytes {
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

    /// Whether a text may be cut between a letter and a space or another mark that begins a piece.
    pub fn cuts_at_words(&self) -> bool {
        self.cuts
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

/// The first character of a piece that BPE has no token for.
fn first_unknown(bpe: &BPE, text: &str) -> std::ops::Range<usize> {
    let known = |at: usize, letter: char| {
        let mut name = letter.to_string();
        if let Some(prefix) = bpe.continuing_subword_prefix.as_ref().filter(|_| at > 0) {
            name.insert_str(0, prefix);
        }
        if let Some(suffix) = &bpe.end_of_word_suffix
            && at + letter.len_utf8() == text.len()
        {
            name.push_str(suffix);
        }
        let spelled = letter.to_string();
        let byte_known = |byte: u8| bpe.token_to_id(&format!("<0x{byte:02X}>")).is_some();
        bpe.token_to_id(&name).is_some() || bpe.byte_fallback && spelled.bytes().all(byte_known)
    };
    let lacking = text.char_indices().find(|&(at, letter)| !known(at, letter));
    lacking.map_or(0..text.len(), |(at, letter)| at..at + letter.len_utf8())
}

/// Tokens that stand for their own spelling.
fn is_plain(kind: TokenType) -> bool {
    kind != TokenType::Normal
}

/// Whether no added token takes spaces along, or reaches over a place where a text may be cut.
fn cuts_at_words(tokenizer: &tokenizers::Tokenizer) -> bool {
    let added = tokenizer.get_added_tokens_decoder();
    added.values().all(|token| {
        let alone = !token.lstrip && !token.rstrip && !token.single_word;
        alone && (token.special || !reaches_over_cut(&token.content))
    })
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
