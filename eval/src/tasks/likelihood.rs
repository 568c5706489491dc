//! Log-likelihoods of the choices of a question. What they have in common is read once.
//!
//! ```text
//! tokens      c0 c1 c2 | t3 t4        c: context, t: continuation
//! read        c0 c1 c2   t3           the last token is not
//! scored            c2   t3           log p(t3 | c0 c1 c2) + log p(t4 | c0 c1 c2 t3)
//! ```

use anyhow::{Result, ensure};
use generate::LoadedModel;
use llama_cpp::{Arithmetic, Branches, Settings};
use rayon::prelude::*;
use reference::Session;
use reference::ops::argmax;

/// Rows of logits that the reference computes at once, at most.
const ROWS: usize = 512;
/// Tokens that llama.cpp has room for at least: several questions' choices fit beside each other.
const LEAST_ROOM: usize = 1024;

/// A context and its continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// Both, at least one token before the continuation.
    pub tokens: Vec<u32>,
    /// Tokens of the continuation, at least 1.
    pub continuation: usize,
}

impl Scored {
    /// What the model reads.
    fn read(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// The place of the first token whose logits are scored.
    fn first(&self) -> usize {
        self.tokens.len() - 1 - self.continuation
    }
}

/// The probability of a continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// In nats.
    pub log: f64,
    /// Whether each of its tokens was the likeliest.
    pub is_greedy: bool,
}

/// A model that reads questions.
pub enum Reader<'m> {
    /// Our own pass, keys and values in f32, and the tokens that it has read.
    Reference(Box<Session>, Vec<u32>),
    /// llama.cpp, keys and values in f32.
    Llama(Branches<'m>),
}

impl<'m> Reader<'m> {
    /// A reader with room for the longest of the questions.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new<'q>(
        model: &'m LoadedModel,
        questions: impl Iterator<Item = &'q [Scored]>,
    ) -> Result<Self> {
        match model {
            LoadedModel::Reference(model) => {
                Ok(Reader::Reference(Box::new(model.session()), Vec::new()))
            }
            LoadedModel::Llama(llama, threads) => {
                let longest = questions.flatten().map(|choice| choice.read().len()).max();
                let context = longest.unwrap_or(1).max(LEAST_ROOM);
                let arithmetic = Arithmetic::Plain;
                let settings = Settings { context, threads: *threads, arithmetic };
                Ok(Reader::Llama(llama.branches(settings)?))
            }
        }
    }

    /// The log-likelihood of each choice.
    ///
    /// # Errors
    /// Those of the engine, and when a logit is not finite.
    pub fn question(&mut self, choices: &[Scored]) -> Result<Vec<Likelihood>> {
        let mut sums = Sums::new(choices);
        match self {
            Reader::Reference(session, read) => sums.with_reference(session, read)?,
            Reader::Llama(branches) => sums.with_llama(branches)?,
        }
        ensure!(
            sums.likelihoods.iter().all(|likelihood| likelihood.log.is_finite()),
            "the model's logits are not finite"
        );
        Ok(sums.likelihoods)
    }
}

/// Tokens that two texts begin with.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The sums over the rows of one question so far.
struct Sums<'q> {
    choices: &'q [Scored],
    likelihoods: Vec<Likelihood>,
}

/// The logits after one token.
struct Row<'a> {
    /// Whose token it is; none for one of all choices.
    choice: Option<usize>,
    place: usize,
    logits: &'a [f32],
}

impl<'q> Sums<'q> {
    fn new(choices: &'q [Scored]) -> Self {
        let none = Likelihood { log: 0.0, is_greedy: true };
        Sums { choices, likelihoods: vec![none; choices.len()] }
    }

    /// What all choices begin with.
    fn prefix(&self) -> &'q [u32] {
        let Some((first, others)) = self.choices.split_first() else { return &[] };
        let whole = first.read();
        let length = others
            .iter()
            .fold(whole.len(), |length, choice| common(&whole[..length], choice.read()));
        &whole[..length]
    }

    /// The first place whose logits some choice needs.
    fn first(&self) -> usize {
        self.choices.iter().map(Scored::first).min().unwrap_or(0)
    }

    fn add(&mut self, rows: &[Row<'_>]) {
        let summaries: Vec<(f64, usize)> =
            rows.par_iter().map(|row| (log_sum_exp(row.logits), argmax(row.logits))).collect();
        for (row, (norm, likeliest)) in rows.iter().zip(summaries) {
            for (index, choice) in self.choices.iter().enumerate() {
                if row.choice.is_some_and(|own| own != index) || row.place < choice.first() {
                    continue;
                }
                let token = choice.tokens[row.place + 1] as usize;
                let sum = &mut self.likelihoods[index];
                sum.log += f64::from(row.logits[token]) - norm;
                sum.is_greedy &= token == likeliest;
            }
        }
    }

    fn with_reference(&mut self, session: &mut Session, read: &mut Vec<u32>) -> Result<()> {
        let longest = self.choices.iter().map(|choice| choice.read().len()).max().unwrap_or(0);
        let mut prefix = self.prefix();
        if session.model().config().rotation_changes(prefix.len(), longest) {
            // A longer text rotates the common tokens by other angles.
            prefix = &[];
        }
        let first = self.first();
        let kept = common(read, prefix).min(first);
        session.truncate(kept);
        self.read_rows(session, None, kept, first, prefix)?;
        for (index, choice) in self.choices.iter().enumerate() {
            session.truncate(prefix.len());
            self.read_rows(session, Some(index), prefix.len(), choice.first(), choice.read())?;
        }
        session.truncate(prefix.len());
        prefix.clone_into(read);
        Ok(())
    }

    /// Reads `text` from place `start` on, and adds its rows from place `first` on.
    fn read_rows(
        &mut self,
        session: &mut Session,
        choice: Option<usize>,
        start: usize,
        first: usize,
        text: &[u32],
    ) -> Result<()> {
        let vocab_size = session.model().config().vocab_size;
        for (piece, tokens) in text[start..].chunks(ROWS).enumerate() {
            let start = start + piece * ROWS;
            let skipped = first.saturating_sub(start).min(tokens.len());
            let logits = session.logits_from(tokens, skipped)?;
            let places = start + skipped..;
            let rows: Vec<Row<'_>> = places
                .zip(logits.chunks_exact(vocab_size))
                .map(|(place, logits)| Row { choice, place, logits })
                .collect();
            self.add(&rows);
        }
        Ok(())
    }

    fn with_llama(&mut self, reader: &mut Branches<'_>) -> Result<()> {
        let (prefix, first) = (self.prefix(), self.first());
        let choices = self.choices;
        let (mut own, mut is_first) = (Vec::new(), true);
        for (index, choice) in choices.iter().enumerate() {
            let rest = &choice.read()[prefix.len()..];
            if !rest.is_empty() {
                own.push((index, rest));
            }
        }
        let mut left = own.as_slice();
        while is_first || !left.is_empty() {
            let texts: Vec<&[u32]> = left.iter().map(|(_, text)| *text).collect();
            // One at least, so that what does not fit is refused.
            let now = reader.fitting(prefix.len(), &texts).max(1).min(left.len());
            let first = if is_first { first } else { prefix.len() };
            reader.read(prefix, first, &texts[..now], &mut |rows| {
                let rows: Vec<Row<'_>> = rows
                    .iter()
                    .map(|row| Row {
                        choice: row.branch.and_then(|branch| left.get(branch)).map(|own| own.0),
                        place: row.place,
                        logits: row.logits,
                    })
                    .collect();
                self.add(&rows);
            })?;
            left = &left[now..];
            is_first = false;
        }
        Ok(())
    }
}

/// `ln(sum(exp(x)))`, summed in f64.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
    most + sum.ln()
}
