//! The tokenizer of llama2.c (`tokenizer.bin`, written by its `tokenizer.py`): SentencePiece's
//! pieces with their scores.
//!
//! ```text
//! u32 length of the longest token in bytes        all numbers little-endian
//! for each id: f32 score, i32 length, the bytes
//! ```
//!
//! Marks are written as spaces. The ids 0, 1 and 2 are the unknown token and the two that begin
//! and end a text, whatever text the file gives them.

use std::io::Read;
use std::path::Path;

use super::{
    GgufForm, SPACE_MARK, SpacePrefix, SpecialTokens, TokenType, Vocabulary, VocabularyKind,
};
use crate::{CheckpointError, limits::TOKENIZER_BYTES};

/// The tokens that a file does not spell as they are.
const FIRST: [(&str, TokenType); 3] =
    [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("</s>", TokenType::Control)];

impl Vocabulary {
    /// Reads a `tokenizer.bin` of llama2.c with `vocab_size` tokens.
    ///
    /// # Errors
    /// When the file cannot be read, holds fewer or more tokens, or a token is not UTF-8.
    pub fn from_llama2c(path: &Path, vocab_size: usize) -> Result<Self, CheckpointError> {
        let mut bytes = Vec::new();
        let file = plain_file::open(path).map_err(CheckpointError::io(path))?;
        // One byte more, so that a file at the limit is told from one beyond it.
        file.take(TOKENIZER_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(CheckpointError::io(path))?;
        parse(&bytes, vocab_size)
            .map_err(|reason| CheckpointError::Content { path: path.to_owned(), reason })
    }
}

fn parse(bytes: &[u8], vocab_size: usize) -> Result<Vocabulary, String> {
    let mut rest = bytes;
    take::<4>(&mut rest).ok_or("the file is empty, expected a tokenizer of llama2.c")?;
    let (mut tokens, mut types, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..vocab_size {
        let (score, text) = token(&mut rest, id, vocab_size)?;
        let (text, kind) = match FIRST.get(id) {
            Some(&(text, kind)) => (text.to_owned(), kind),
            None if super::byte_token(text).is_some() => (text.to_owned(), TokenType::Byte),
            None => (text.replace(' ', &SPACE_MARK.to_string()), TokenType::Normal),
        };
        tokens.push(text);
        types.push(kind);
        scores.push(score);
    }
    if !rest.is_empty() {
        return Err(format!(
            "{} bytes behind the {vocab_size} tokens that the model has; this is the tokenizer of \
             another model",
            rest.len()
        ));
    }
    let present = |id: u32| (id as usize) < vocab_size;
    let special = |id: u32| Some(id).filter(|&id| present(id));
    Ok(Vocabulary {
        kind: VocabularyKind::SentencePiece {
            scores,
            merges: Vec::new(),
            prefix: SpacePrefix::Always,
        },
        tokens,
        types,
        special: SpecialTokens {
            bos: special(1),
            eos: special(2),
            more_eos: Vec::new(),
            unknown: special(0),
            padding: None,
            add_bos: present(1),
        },
        chat_template: None,
        form: GgufForm::Exact,
        is_complete: true,
        json: None,
    })
}

/// The score and the text of one token.
fn token<'a>(rest: &mut &'a [u8], id: usize, vocab_size: usize) -> Result<(f32, &'a str), String> {
    let short = || format!("the file ends within token {id}, expected {vocab_size} tokens");
    let score = f32::from_le_bytes(take(rest).ok_or_else(short)?);
    let length = i32::from_le_bytes(take(rest).ok_or_else(short)?);
    let length = usize::try_from(length)
        .map_err(|_| format!("token {id} has a length of {length}, expected 0 or more"))?;
    let (text, behind) = rest.split_at_checked(length).ok_or_else(short)?;
    *rest = behind;
    if !score.is_finite() {
        return Err(format!("token {id} has the score {score}, expected a number"));
    }
    let text = std::str::from_utf8(text).map_err(|_| format!("token {id} is not UTF-8"))?;
    Ok((score, text))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the three first tokens, a byte and a word.
    fn file() -> Vec<u8> {
        let mut bytes = 6_u32.to_le_bytes().to_vec();
        for (score, text) in [
            (0.0_f32, "<unk>"),
            (0.0, "\n<s>\n"),
            (0.0, "\n</s>\n"),
            (0.0, "<0x0A>"),
            (-1.5, " a b"),
        ] {
            bytes.extend(score.to_le_bytes());
            bytes.extend((text.len() as i32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn tokens_types_and_scores() {
        let vocabulary = parse(&file(), 5).unwrap();
        assert_eq!(vocabulary.tokens, ["<unk>", "<s>", "</s>", "<0x0A>", "\u{2581}a\u{2581}b"]);
        let types = [2, 3, 3, 6, 1];
        assert_eq!(vocabulary.types.iter().map(|&kind| kind as i32).collect::<Vec<_>>(), types);
        let VocabularyKind::SentencePiece { scores, .. } = vocabulary.kind else { panic!() };
        assert_eq!(scores, [0.0, 0.0, 0.0, 0.0, -1.5]);
        assert_eq!((vocabulary.special.bos, vocabulary.special.eos), (Some(1), Some(2)));
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let whole = file();
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], 5).is_err(), "cut at {end}");
        }
        assert!(parse(&whole, 4).unwrap_err().contains("12 bytes behind the 4 tokens"));
        assert!(parse(&whole, 6).unwrap_err().contains("ends within token 5"));
        let mut negative = whole.clone();
        negative[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
        assert!(parse(&negative, 5).unwrap_err().contains("a length of -1"));
        let mut bad = whole.clone();
        bad[12] = 0xFF;
        assert!(parse(&bad, 5).unwrap_err().contains("token 0 is not UTF-8"));
        let mut bad = whole;
        bad[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(parse(&bad, 5).unwrap_err().contains("score NaN"));
    }
}
