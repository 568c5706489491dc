//! Several texts with one beginning, read side by side: the beginning is computed once.
//!
//! ```text
//! prefix    t0 t1 t2 t3                 in every sequence
//! branch 0              a0 a1 a2        in sequence 0
//! branch 1              b0 b1           in sequence 1
//! ```
//!
//! The cells of the cache are shared (`kv_unified`), as in `llama-perplexity --hellaswag`.

use std::num::NonZeroU32;

use llama_cpp_sys_2 as sys;

use crate::ffi::Context;
use crate::session::{new_batch, params};
use crate::{Llama, LlamaError, Settings};

/// Tokens that are computed at once, llama.cpp's own default, and the most rows of logits in memory.
const BATCH: usize = 512;
/// Most branches at once; llama.cpp allows 256 sequences.
const MOST_BRANCHES: usize = 64;

/// Texts with one beginning.
pub struct Branches<'a> {
    context: Context<'a>,
    /// Tokens of the prefix and of all branches there is room for.
    capacity: usize,
    vocab_size: usize,
    /// Sequences; llama.cpp wants no more of them than tokens in a batch.
    sequences: usize,
    /// What sequence 0 holds of the last prefix.
    prefix: Vec<u32>,
}

/// The logits after one token.
#[derive(Debug, Clone, Copy)]
pub struct BranchRow<'a> {
    /// The branch of the token; none for one of the prefix.
    pub branch: Option<usize>,
    /// Place of the token in its text, the prefix included, from 0.
    pub place: usize,
    /// `[V]`
    pub logits: &'a [f32],
}

/// A token of a batch.
struct Entry {
    token: u32,
    branch: Option<usize>,
    place: usize,
    wanted: bool,
}

impl Llama {
    /// Room for `settings.context` tokens, those of a prefix and of all its branches together.
    ///
    /// # Errors
    /// When llama.cpp gets no memory for it.
    pub fn branches(&self, settings: Settings) -> Result<Branches<'_>, LlamaError> {
        let capacity = settings.context;
        let no_room = || LlamaError::NoRoom { path: self.path.clone(), context: capacity };
        let size = i32::try_from(capacity).ok().and_then(|n| NonZeroU32::new(n as u32));
        let size = size.ok_or_else(no_room)?;
        let sequences = MOST_BRANCHES.min(capacity);
        let params = sys::llama_context_params {
            n_batch: size.get().min(BATCH as u32),
            n_ubatch: size.get().min(BATCH as u32),
            n_seq_max: sequences as u32,
            kv_unified: true,
            ..params(size, settings)
        };
        let context = self.model.context(params).ok_or_else(no_room)?;
        Ok(Branches {
            context,
            capacity,
            vocab_size: self.vocab_size,
            sequences,
            prefix: Vec::new(),
        })
    }
}

impl Branches<'_> {
    /// How many of the branches, from the first on, fit beside a prefix of `prefix` tokens; 0 if
    /// the first alone does not.
    pub fn fitting(&self, prefix: usize, branches: &[&[u32]]) -> usize {
        let mut free = self.capacity.saturating_sub(prefix);
        let mut fits = |branch: &[u32]| {
            let left = free.checked_sub(branch.len());
            free = left.unwrap_or(0);
            left.is_some()
        };
        branches.iter().take(self.sequences).take_while(|branch| fits(branch)).count()
    }

    /// Reads `prefix` and each of `branches` behind it, and passes the logits after the tokens of
    /// the prefix from place `first` on, and after every token of a branch, to `take`, some rows at
    /// a time. A branch may be empty. What the prefix has in common with the last one is not read
    /// again; everything else is forgotten before.
    ///
    /// # Errors
    /// No tokens, more than there is room for, an id beyond the vocabulary, or a failure inside
    /// llama.cpp.
    pub fn read(
        &mut self,
        prefix: &[u32],
        first: usize,
        branches: &[&[u32]],
        take: &mut dyn FnMut(&[BranchRow<'_>]),
    ) -> Result<(), LlamaError> {
        let wanted = prefix.len() + branches.iter().map(|branch| branch.len()).sum::<usize>();
        if wanted == 0 {
            return Err(LlamaError::NoTokens);
        }
        if wanted > self.capacity || branches.len() > self.sequences {
            return Err(LlamaError::ContextOverflow { wanted, limit: self.capacity });
        }
        let kept = self.keep(prefix, first, branches.len());
        let common = prefix.iter().enumerate().map(|(place, &token)| Entry {
            token,
            branch: None,
            place,
            wanted: place >= first,
        });
        let common = common.skip(kept);
        let own = branches.iter().enumerate().flat_map(|(branch, tokens)| {
            (prefix.len()..).zip(*tokens).map(move |(place, &token)| Entry {
                token,
                branch: Some(branch),
                place,
                wanted: true,
            })
        });
        let entries: Vec<Entry> = common.chain(own).collect();
        // Every sequence holds the prefix, also those of empty branches: one at least.
        let all: Vec<i32> = (0..branches.len().max(1) as i32).collect();
        for entries in entries.chunks(BATCH) {
            self.decode(entries, &all)?;
            let rows = entries.iter().enumerate().filter(|(_, entry)| entry.wanted);
            let rows = rows.map(|(place, entry)| {
                let logits = self.context.logits(place, self.vocab_size);
                Ok(BranchRow {
                    branch: entry.branch,
                    place: entry.place,
                    logits: logits.ok_or(LlamaError::NoLogits { place })?,
                })
            });
            take(&rows.collect::<Result<Vec<BranchRow<'_>>, LlamaError>>()?);
        }
        prefix.clone_into(&mut self.prefix);
        Ok(())
    }

    /// Leaves the beginning of `prefix` that was read before in the first `count` sequences, and
    /// nothing in all others. Gives its length: at most `first`, whose logits are wanted.
    fn keep(&mut self, prefix: &[u32], first: usize, count: usize) -> usize {
        let read = std::mem::take(&mut self.prefix);
        let common = prefix.iter().zip(&read).take_while(|(a, b)| a == b).count();
        let kept = common.min(first);
        // Lengths and sequences fit an i32.
        let is_left = kept > 0
            && (1..self.sequences as i32).all(|other| self.context.remove(other, 0))
            && self.context.remove(0, kept as i32);
        if !is_left {
            self.context.clear();
            return 0;
        }
        (1..count as i32).for_each(|other| self.context.copy(0, other));
        kept
    }

    fn decode(&mut self, entries: &[Entry], all: &[i32]) -> Result<(), LlamaError> {
        let mut batch = new_batch(entries.len(), self.sequences)?;
        for entry in entries {
            let (token, vocab_size) = (entry.token, self.vocab_size);
            let id = i32::try_from(token).ok().filter(|_| (token as usize) < vocab_size);
            let id = id.ok_or(LlamaError::TokenOutOfRange { token, vocab_size })?;
            // Places and branches are below limits that fit an i32.
            let own = entry.branch.map(|branch| [branch as i32]);
            let sequences = own.as_ref().map_or(all, |own| own.as_slice());
            batch.add(id, entry.place as i32, sequences, entry.wanted);
        }
        self.context.decode(&batch).map_err(|code| LlamaError::Decode { code })
    }
}
