//! Generates one answer: from the rendered conversation to text. The keys and values of what was
//! read before are kept from turn to turn.

use anyhow::{Result, bail};
use data::Tokenizer;

use crate::decode::{Limits, Stop, decode};
use crate::engine::Engine;
use crate::sampling::Sampler;
use crate::source::Ready;
use crate::stream::Utf8Stream;

/// Tokens of a prompt that are read at once: between two such parts an answer can be stopped.
const PART: usize = 256;

/// Generates answers with one model, one after the other.
pub struct Answerer<'m> {
    ready: &'m Ready,
    engine: Box<dyn Engine + 'm>,
    /// The tokens that the engine has read.
    read: Vec<u32>,
    stops: Vec<u32>,
}

/// How an answer is generated.
pub struct AnswerSettings<'a> {
    /// Chooses its tokens.
    pub sampler: &'a mut Sampler,
    /// Most tokens.
    pub max_tokens: usize,
    /// Whether it should stop now.
    pub stopped: &'a dyn Fn() -> bool,
}

/// The result of a turn.
pub struct Answer {
    /// The text, without the token that ended it.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Tokens of the prompt that had been read for an earlier answer.
    pub known: usize,
    /// Why it ended; `None` if the user stopped it.
    pub stop: Option<Stop>,
}

impl<'m> Answerer<'m> {
    /// # Errors
    /// When there is not enough memory for the keys and values.
    pub fn new(ready: &'m Ready) -> Result<Self> {
        // If the model begins another text, this one has ended.
        let stops = ready.ends.iter().copied().chain(ready.tokenizer.bos()).collect();
        Ok(Answerer { engine: ready.model.session()?, ready, read: Vec::new(), stops })
    }

    /// Most tokens that conversation and answer may have together.
    pub fn context_length(&self) -> usize {
        self.engine.context_length()
    }

    /// The model that answers.
    pub fn ready(&self) -> &'m Ready {
        self.ready
    }

    /// Reads `tokens`, of which the engine may have read the beginning already, and generates the
    /// answer. `show` gets each piece of text as soon as its characters are complete.
    ///
    /// # Errors
    /// When the engine fails, or `show` does.
    pub fn answer(
        &mut self,
        tokens: &[u32],
        settings: AnswerSettings<'_>,
        show: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let AnswerSettings { sampler, max_tokens, stopped } = settings;
        // The last token is read again even if the engine has read it: its logits choose the next
        // one.
        let known = self.forget_all_but(tokens)?;
        let before = tokens.len().saturating_sub(1);
        for part in tokens[known..before].chunks(PART) {
            if stopped() {
                let text = String::new();
                return Ok(Answer { text, tokens: 0, known, stop: None });
            }
            self.engine.push(part)?;
            self.read.extend(part);
        }
        let (read, unread) = tokens.split_at(before);
        let mut shown = Shown::new(&self.ready.tokenizer);
        let limits = Limits { max_tokens, end_of_text: &self.stops };
        let decoded = decode(self.engine.as_mut(), read, unread, sampler, limits, &mut |id| {
            if stopped() {
                bail!(Interrupted);
            }
            shown.push(id, show)
        });
        // The last token was chosen but may not have been read.
        self.read = [tokens, &shown.ids].concat();
        self.read.truncate(self.engine.position());
        let stop = match decoded {
            Ok(decoded) => Some(decoded.stop),
            Err(error) if error.is::<Interrupted>() => None,
            Err(error) => return Err(error),
        };
        let count = shown.ids.len();
        Ok(Answer { text: shown.finish(show)?, tokens: count, known, stop })
    }

    /// Keeps what the engine has read of the beginning of `tokens`, at most all but the last one,
    /// and says how many tokens that are.
    fn forget_all_but(&mut self, tokens: &[u32]) -> Result<usize> {
        let same = self.read.iter().zip(tokens).take_while(|(x, y)| x == y).count();
        let known = same.min(tokens.len().saturating_sub(1));
        if known < self.read.len() && self.engine.truncate(known).is_err() {
            // Some models cannot go back.
            self.engine = self.ready.model.session()?;
            self.read.clear();
            return Ok(0);
        }
        self.read.truncate(known);
        Ok(known)
    }
}

/// The user stopped the answer; it ends here.
#[derive(Debug, thiserror::Error)]
#[error("the answer was stopped")]
struct Interrupted;

/// The text of a growing list of tokens.
struct Shown<'t> {
    tokenizer: &'t Tokenizer,
    ids: Vec<u32>,
    bytes: usize,
    stream: Utf8Stream,
    text: String,
}

impl<'t> Shown<'t> {
    fn new(tokenizer: &'t Tokenizer) -> Self {
        let (ids, stream) = (Vec::new(), Utf8Stream::default());
        Shown { tokenizer, ids, bytes: 0, stream, text: String::new() }
    }

    fn push(&mut self, id: u32, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        self.ids.push(id);
        // Decoded from the start each time: the spelling of a token may depend on those before.
        let bytes = self.tokenizer.decode_bytes(&self.ids);
        let piece = self.stream.push(bytes.get(self.bytes..).unwrap_or_default());
        self.bytes = bytes.len();
        self.text.push_str(&piece);
        if piece.is_empty() { Ok(()) } else { show(&piece) }
    }

    fn finish(mut self, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<String> {
        let rest = self.stream.finish();
        self.text.push_str(&rest);
        if !rest.is_empty() {
            show(&rest)?;
        }
        Ok(self.text)
    }
}
