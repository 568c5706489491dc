//! The decoding loop: read, choose, show, until the text ends.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::engine::Engine;
use crate::sampling::Sampler;

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model generated a token that ends the text.
    EndOfText,
    /// The requested number of tokens is reached.
    MaxTokens,
    /// The context of the model is full.
    ContextFull,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Stop::EndOfText => "the model ended the text",
            Stop::MaxTokens => "as many tokens as asked for",
            Stop::ContextFull => "the model's context is full",
        })
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// At most this many tokens after the prompt.
    pub max_tokens: usize,
    /// The tokens that end a text, if the tokenizer has any.
    pub end_of_text: &'a [u32],
}

/// The result of decoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Ids after the prompt, without the one that ends the text.
    pub tokens: Vec<u32>,
    /// Why the text ended.
    pub stop: Stop,
    /// Speed.
    pub timing: Timing,
}

/// Speed of the two phases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// Seconds from the prompt to the first token: reading the prompt.
    pub first_token_s: f64,
    /// Tokens after the first one, per second; none if there was only one.
    pub tokens_per_s: Option<f64>,
}

/// Reads the prompt, after the tokens `before` that the engine has read, and continues it. `show`
/// gets each new token's id; an error from it ends the text.
///
/// The context does not slide: a model with learned positions would have to read everything again
/// for each token past the end, so the text stops there, and the result says why.
///
/// # Errors
/// When the prompt does not fit in the context, the model's logits are NaN, or `show` fails.
pub fn decode(
    engine: &mut dyn Engine,
    before: &[u32],
    prompt: &[u32],
    sampler: &mut Sampler,
    limits: Limits<'_>,
    show: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Decoded> {
    let start = Instant::now();
    let mut seen = [before, prompt].concat();
    let start_of_answer = seen.len();
    let mut logits = engine.push(prompt)?;
    let mut first = None;
    let stop = loop {
        if seen.len() - start_of_answer == limits.max_tokens {
            break Stop::MaxTokens;
        }
        let token = sampler.next(&logits, &seen)?;
        first.get_or_insert_with(Instant::now);
        if limits.end_of_text.contains(&token) {
            break Stop::EndOfText;
        }
        seen.push(token);
        show(token)?;
        if seen.len() - start_of_answer == limits.max_tokens {
            break Stop::MaxTokens;
        }
        if engine.position() == engine.context_length() {
            break Stop::ContextFull;
        }
        logits = engine.push(&[token])?;
    };
    let tokens = seen.split_off(start_of_answer);
    let first = first.unwrap_or_else(Instant::now);
    let after_first = tokens.len().saturating_sub(1);
    let timing = Timing {
        first_token_s: (first - start).as_secs_f64(),
        tokens_per_s: (after_first > 0).then(|| after_first as f64 / first.elapsed().as_secs_f64()),
    };
    Ok(Decoded { tokens, stop, timing })
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::sampling::Sampling;

    /// A model that counts: the next token is always the last one plus 1.
    struct Counter {
        position: usize,
    }

    impl Engine for Counter {
        fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
            self.position += tokens.len();
            if self.position > 8 {
                bail!("beyond the context");
            }
            let mut logits = vec![0.0; 100];
            logits[tokens[tokens.len() - 1] as usize + 1] = 1.0;
            Ok(logits)
        }

        fn truncate(&mut self, tokens: usize) -> Result<()> {
            self.position = tokens;
            Ok(())
        }

        fn position(&self) -> usize {
            self.position
        }

        fn context_length(&self) -> usize {
            8
        }
    }

    fn count_from(prompt: &[u32], limits: Limits<'_>) -> Result<(Decoded, Vec<u32>)> {
        let mut sampler = Sampler::new(Sampling::GREEDY, 0)?;
        let mut shown = Vec::new();
        let mut show = |token| {
            shown.push(token);
            Ok(())
        };
        let decoded =
            decode(&mut Counter { position: 0 }, &[], prompt, &mut sampler, limits, &mut show)?;
        Ok((decoded, shown))
    }

    #[test]
    fn stops_after_as_many_tokens_as_asked_for() {
        let limits = Limits { max_tokens: 3, end_of_text: &[] };
        let (decoded, shown) = count_from(&[10], limits).unwrap();
        assert_eq!(decoded.tokens, [11, 12, 13]);
        assert_eq!(shown, decoded.tokens);
        assert_eq!(decoded.stop, Stop::MaxTokens);
        assert!(decoded.timing.tokens_per_s.is_some());
    }

    #[test]
    fn none_asked_for_is_none_given() {
        let limits = Limits { max_tokens: 0, end_of_text: &[] };
        let (decoded, _) = count_from(&[10], limits).unwrap();
        assert!(decoded.tokens.is_empty());
        assert_eq!(decoded.timing.tokens_per_s, None);
    }

    #[test]
    fn stops_at_the_end_of_the_text_without_showing_it() {
        let limits = Limits { max_tokens: 50, end_of_text: &[13] };
        let (decoded, shown) = count_from(&[10], limits).unwrap();
        assert_eq!(decoded.tokens, [11, 12]);
        assert_eq!(shown, [11, 12]);
        assert_eq!(decoded.stop, Stop::EndOfText);
    }

    #[test]
    fn stops_when_the_context_is_full() {
        let limits = Limits { max_tokens: 50, end_of_text: &[] };
        let (decoded, _) = count_from(&[1, 2, 3], limits).unwrap();
        // Eight positions are read; the last one still predicts a token.
        assert_eq!(decoded.tokens, [4, 5, 6, 7, 8, 9]);
        assert_eq!(decoded.stop, Stop::ContextFull);
    }

    #[test]
    fn a_prompt_beyond_the_context_is_refused() {
        let limits = Limits { max_tokens: 1, end_of_text: &[] };
        assert!(count_from(&[0; 9], limits).is_err());
    }
}
