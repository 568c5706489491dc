//! Trains byte-level BPE on a corpus: a vocabulary of GPT-2's kind that encodes this text in few
//! tokens (Sennrich et al., 2016), with the trainer of Hugging Face's crate.
//!
//! The result is an ordinary GPT-2 tokenizer with other merges: 256 bytes, the merged tokens in the
//! order of training, and `<|endoftext|>` last. Equal texts give equal files.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::tokenizer::Trainer;

use super::Tokenizer;
use super::alphabet::Alphabet;
use super::bpe::{Bpe, END_OF_TEXT};
use super::classes::Classes;
use super::split::Digits;
use crate::corpus::Corpus;
use crate::documents::with_batches;
use crate::inputs::Counter;

/// The 256 bytes and `<|endoftext|>`.
const SMALLEST: usize = 257;
/// Largest vocabulary, far larger than any realistic text needs.
const LARGEST: usize = 1 << 20;
/// Longest piece that is counted as one, in bytes: the trainer holds about 40 bytes for each of
/// them.
const LONGEST_PIECE: usize = 16 << 10;
/// A pair that occurs once is not merged.
const MIN_FREQUENCY: u64 = 2;

/// Trains a vocabulary of `vocab_size` tokens on the documents of a corpus, which are read in parts. A text that is too short gives fewer tokens; the actual size is
/// [`Tokenizer::vocab_size`].
///
/// # Errors
/// A size below 257 or beyond 1,048,576; a text that is missing or not UTF-8.
pub fn train_tokenizer(corpus: &Corpus, vocab_size: usize) -> Result<Tokenizer> {
    ensure!(
        (SMALLEST..=LARGEST).contains(&vocab_size),
        "a vocabulary of {vocab_size}; expected {SMALLEST} (256 bytes and {END_OF_TEXT}) to \
         {LARGEST}"
    );
    let alphabet = Alphabet::new();
    let bytes: Vec<u8> = (0..=255).collect();
    let letters: HashSet<char> = alphabet.write(&bytes).chars().collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(MIN_FREQUENCY)
        .vocab_size(vocab_size - 1)
        .initial_alphabet(letters)
        .build();
    feed(&mut trainer, corpus, &alphabet)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(|error| anyhow!("{error}"))?;
    from_model(&model)
}

/// Counts the pieces of the corpus: one thread reads, the others split.
fn feed(trainer: &mut BpeTrainer, corpus: &Corpus, alphabet: &Alphabet) -> Result<()> {
    let classes = Classes::new()?;
    let pieces = |text: &str| {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let end = classes.piece_end(text, start, Digits::Runs);
            // A piece of this length is not a word: its parts are counted instead.
            let end = end.min(text.ceil_char_boundary(start + LONGEST_PIECE));
            pieces.push(alphabet.write(&text.as_bytes()[start..end]));
            start = end;
        }
        Ok(pieces)
    };
    let fed = with_batches(
        corpus,
        &Counter::default(),
        |part| classes.last_cut(part),
        |batches| {
            let texts = batches.into_iter().flatten().map(|part| part.text);
            trainer.feed(texts, pieces).map_err(|error| anyhow!("{error}"))
        },
    );
    fed.map(|_| ())
}

/// The trained model's vocabulary and merges, which the crate exposes only as JSON.
fn from_model(model: &BPE) -> Result<Tokenizer> {
    let file = serde_json::to_value(model)?;
    let vocab = file["vocab"].as_object().context("the trained model has no vocabulary")?;
    let mut names = vec![String::new(); vocab.len()];
    for (name, id) in vocab {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let place = id.and_then(|id| names.get_mut(id)).context("an id out of order")?;
        *place = name.clone();
    }
    let merges = file["merges"].as_array().context("the trained model has no merges")?;
    let line = |merge: &Value| match (merge[0].as_str(), merge[1].as_str()) {
        (Some(left), Some(right)) => Ok(format!("{left} {right}")),
        _ => Err(anyhow!("the trained model has the merge {merge}")),
    };
    let merges: Vec<String> = merges.iter().map(line).collect::<Result<_>>()?;
    let end_of_text = u32::try_from(names.len())?;
    names.push(END_OF_TEXT.to_owned());
    let bpe = Bpe::from_merges(Digits::Runs, &names, &merges, |id| id == end_of_text as usize)?;
    Ok(Tokenizer::from_bpe(bpe, end_of_text))
}
