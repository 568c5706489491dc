//! Encodes one text on many threads.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{MissingToken, Tokenizer, Worker};

/// Bytes of text for one task: long enough that the cost of a task does not matter, short enough
/// that the threads finish together.
const SEGMENT: usize = 128 << 10;

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
        let mut start = 0;
        let starts = |segment: &'_ str| {
            start += segment.len();
            start - segment.len()
        };
        let segments = self.segments(text);
        let starts: Vec<usize> = segments.iter().copied().map(starts).collect();
        segments
            .into_par_iter()
            .zip(starts)
            .map(|(segment, start)| {
                // Each thread of the pool has its own worker, so the lock never blocks.
                let thread = rayon::current_thread_index().unwrap_or(0) % self.workers.len();
                let mut worker =
                    self.workers[thread].lock().unwrap_or_else(PoisonError::into_inner);
                let mut ids = Vec::with_capacity(segment.len() / 3 + 1);
                let encoded = worker.encode(segment, begins && start == 0, &mut ids);
                encoded.map_err(|missing| missing.behind(start as u64))?;
                Ok(ids)
            })
            .collect()
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
