//! Encodes one text on many threads.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{MissingToken, Tokenizer, Worker};

/// Bytes of text for one task: long enough that the cost of a task does not matter, short enough
/// that the threads finish together.
const SEGMENT: usize = 128 << 10;

/// Tokens of consecutive segments, each with the index of its text.
type Segments = Vec<(usize, Vec<u32>)>;

/// One worker for each thread of the rayon pool it was made in, kept from text to text to keep the
/// contents of the caches.
#[derive(Debug)]
pub(crate) struct ParallelEncoder<'a> {
    tokenizer: &'a Tokenizer,
    workers: Vec<Mutex<Worker<'a>>>,
}

impl<'a> ParallelEncoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let workers =
            (0..rayon::current_num_threads()).map(|_| Mutex::new(tokenizer.worker(SEGMENT)));
        ParallelEncoder { tokenizer, workers: workers.collect() }
    }

    /// The tokens of a text or of a part of one, in order, in one vector for each segment. Only the
    /// first part of a text `begins` it.
    ///
    /// # Errors
    /// When the vocabulary lacks a part of the text.
    pub fn encode(&self, text: &str, begins: bool) -> Result<Vec<Vec<u32>>, MissingToken> {
        self.encode_texts(&[(text, begins)])
            .map(|segments| segments.into_iter().map(|(_, ids)| ids).collect())
            .map_err(|(_, missing)| missing)
    }

    /// The same for several texts, in their order; each vector comes with the index of its text.
    ///
    /// # Errors
    /// When the vocabulary lacks a part of a text; with the index of the first such text.
    pub fn encode_texts(&self, texts: &[(&str, bool)]) -> Result<Segments, (usize, MissingToken)> {
        let mut segments = Vec::with_capacity(texts.len());
        for (index, (text, begins)) in texts.iter().enumerate() {
            let mut start = 0;
            for segment in self.segments(text) {
                segments.push((index, segment, start, *begins && start == 0));
                start += segment.len();
            }
        }
        let encoded: Vec<_> = segments
            .into_par_iter()
            .map(|(index, segment, start, begins)| {
                // Each thread of the pool has its own worker, so the lock never blocks.
                let thread = rayon::current_thread_index().unwrap_or(0) % self.workers.len();
                let mut worker =
                    self.workers[thread].lock().unwrap_or_else(PoisonError::into_inner);
                let mut ids = Vec::with_capacity(segment.len() / 3 + 1);
                let encoded = worker.encode(segment, begins, &mut ids);
                encoded.map_err(|missing| (index, missing.behind(start as u64)))?;
                Ok((index, ids))
            })
            .collect();
        // The first error of the texts, not of the threads.
        encoded.into_iter().collect()
    }

    /// Splits `text` into parts that encode to the same tokens as the whole.
    fn segments<'t>(&self, mut text: &'t str) -> Vec<&'t str> {
        let mut segments = Vec::with_capacity(text.len() / SEGMENT + 1);
        while text.len() > SEGMENT {
            let (segment, rest) = text.split_at(self.tokenizer.next_cut(text, SEGMENT));
            segments.push(segment);
            text = rest;
        }
        segments.push(text);
        segments
    }
}
