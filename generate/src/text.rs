//! Generates one text from one prompt.

use std::fmt;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::decode::{Decoded, Limits, Stop, Timing, decode};
use crate::engine::EngineKind;
use crate::sampling::{Sampler, Sampling};
use crate::source::{ModelJob, Ready};
use crate::stream::Utf8Stream;

/// The settings of a text.
#[derive(Debug, Clone)]
pub struct GenerateJob {
    /// The model and its engine.
    pub model: ModelJob,
    /// The text to continue.
    pub prompt: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the random numbers.
    pub seed: u64,
    /// At most this many new tokens.
    pub max_tokens: usize,
}

/// A text and the settings it was generated with.
#[derive(Debug, Clone, Serialize)]
pub struct TextReport {
    /// The model's path, as given.
    pub model: String,
    /// The engine that computed the logits.
    pub engine: EngineKind,
    /// How tokens were chosen.
    pub sampling: Sampling,
    /// Seed of the random numbers.
    pub seed: u64,
    /// The text to continue.
    pub prompt: String,
    /// Number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// The generated text, after the prompt.
    pub text: String,
    /// The ids of that text.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Speed.
    #[serde(flatten)]
    pub timing: Timing,
    /// Whether prompt and text were already shown while they were generated.
    #[serde(skip)]
    pub shown: bool,
}

/// Prompt and text; empty if they were already shown.
impl fmt::Display for TextReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown { Ok(()) } else { write!(f, "{}{}", self.prompt, self.text) }
    }
}

impl TextReport {
    /// `40 tokens, the first after 0.12 s, then 23.4 tokens/s; the model ended the text`.
    pub fn summary(&self) -> String {
        let speed = speed(&self.timing);
        format!("{} tokens, the first after {speed}; {}", self.tokens.len(), self.stop)
    }
}

/// `0.12 s, then 23.4 tokens/s`.
fn speed(timing: &Timing) -> String {
    let then = timing.tokens_per_s.map(|speed| format!(", then {speed:.1} tokens/s"));
    format!("{:.3} s{}", timing.first_token_s, then.unwrap_or_default())
}

/// Loads the model and continues the prompt. `show` gets the prompt and then each piece of text as
/// soon as its characters are complete.
///
/// # Errors
/// Invalid settings, an empty or too long prompt, a model that cannot be loaded, or an error of
/// `show`.
pub fn generate(job: &GenerateJob, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<TextReport> {
    // Checked before the model is loaded, which may take a while.
    job.sampling.validate()?;
    ensure!(!job.prompt.is_empty(), "the prompt is empty: give at least one character");
    let ready = Ready::load(&job.model)?;
    write_text(&ready, job, show)
}

/// Like [`generate`], with a model that is loaded already.
///
/// # Errors
/// As [`generate`].
pub fn write_text(
    ready: &Ready,
    job: &GenerateJob,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<TextReport> {
    let prompt = ready.encode(&job.prompt)?;
    let mut sampler = Sampler::new(job.sampling, job.seed)?;
    let mut session = ready.model.session()?;
    let (read, limit) = (prompt.len(), session.context_length());
    // Checked before anything is shown.
    ensure!(
        read <= limit,
        "the prompt's {read} tokens do not fit in the model's context of {limit}"
    );
    let limits = Limits { max_tokens: job.max_tokens, end_of_text: &ready.ends };

    // Decoded from the start each time: the spelling of a token may depend on the one before it.
    let mut ids = prompt.clone();
    let mut bytes_shown = ready.tokenizer.decode_bytes(&ids).len();
    let mut stream = Utf8Stream::default();
    let mut text = String::new();
    show(&job.prompt)?;
    let decoded = decode(session.as_mut(), &[], &prompt, &mut sampler, limits, &mut |token| {
        ids.push(token);
        let bytes = ready.tokenizer.decode_bytes(&ids);
        let piece = stream.push(bytes.get(bytes_shown..).unwrap_or_default());
        bytes_shown = bytes.len();
        text.push_str(&piece);
        if piece.is_empty() { Ok(()) } else { show(&piece) }
    })?;
    let rest = stream.finish();
    text.push_str(&rest);
    if !rest.is_empty() {
        show(&rest)?;
    }
    Ok(report(job, prompt.len(), text, decoded))
}

fn report(job: &GenerateJob, prompt_tokens: usize, text: String, decoded: Decoded) -> TextReport {
    TextReport {
        model: job.model.path.display().to_string(),
        engine: job.model.engine,
        sampling: job.sampling,
        seed: job.seed,
        prompt: job.prompt.clone(),
        prompt_tokens,
        text,
        tokens: decoded.tokens,
        stop: decoded.stop,
        timing: decoded.timing,
        shown: false,
    }
}
