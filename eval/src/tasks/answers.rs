//! Generated answers: greedy, until a stop text, the model's own end or the most tokens.

use anyhow::{Result, bail};
use generate::decode::{Limits, decode};
use generate::sampling::{Sampler, Sampling};
use generate::{Engine, LoadedModel, Ready};
use llama_cpp::{Arithmetic, Settings};

use super::likelihood::common;

/// Answers one prompt after the other; what two have in common is read once.
pub struct Writer<'m> {
    ready: &'m Ready,
    engine: Box<dyn Engine + 'm>,
    /// The tokens that the engine has read.
    read: Vec<u32>,
}

/// A stop text was written; the answer ends here.
#[derive(Debug, thiserror::Error)]
#[error("a stop text was written")]
struct Stopped;

impl<'m> Writer<'m> {
    /// A writer with room for `context` tokens of prompt and answer together.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(ready: &'m Ready, context: usize) -> Result<Self> {
        let engine: Box<dyn Engine + 'm> = match &ready.model {
            LoadedModel::Reference(model) => Box::new(model.session()),
            LoadedModel::Llama(llama, threads) => {
                let arithmetic = Arithmetic::Plain;
                let settings = Settings { context: context.max(1), threads: *threads, arithmetic };
                Box::new(llama.session(settings)?)
            }
        };
        Ok(Writer { ready, engine, read: Vec::new() })
    }

    /// The answer to `prompt` (at least one token), without special tokens, up to the first of
    /// `stops`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        max_tokens: usize,
        stops: &[String],
    ) -> Result<String> {
        // The logits after the last token choose the next one, so that one is read again.
        let kept = common(&self.read, prompt).min(prompt.len().saturating_sub(1));
        self.engine.truncate(kept)?;
        self.read.clear();
        let (before, unread) = prompt.split_at(kept);
        let mut sampler = Sampler::new(Sampling::GREEDY, 0)?;
        let limits = Limits { max_tokens, end_of_text: &self.ready.ends };
        let tokenizer = &self.ready.tokenizer;
        let mut ids = Vec::new();
        let text = |ids: &[u32]| {
            let plain: Vec<u32> =
                ids.iter().copied().filter(|&id| !tokenizer.is_special(id)).collect();
            tokenizer.decode(&plain)
        };
        let decoded =
            decode(self.engine.as_mut(), before, unread, &mut sampler, limits, &mut |id| {
                ids.push(id);
                let written = text(&ids);
                if stops.iter().any(|stop| written.contains(stop.as_str())) {
                    bail!(Stopped);
                }
                Ok(())
            });
        match decoded {
            Ok(_) => {}
            Err(error) if error.is::<Stopped>() => {}
            Err(error) => return Err(error),
        }
        self.read = [prompt, &ids].concat();
        self.read.truncate(self.engine.position());
        Ok(cut(&text(&ids), stops))
    }
}

/// The text before the first of `stops`.
fn cut(text: &str, stops: &[String]) -> String {
    let ends = stops.iter().filter_map(|stop| text.find(stop.as_str()));
    text[..ends.min().unwrap_or(text.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_before_the_first_stop() {
        let stops = ["\n\n".to_owned(), "Q:".to_owned()];
        for (text, expected) in [("a\n\nb Q:", "a"), ("a Q: b\n\n", "a "), ("a\nb", "a\nb")] {
            assert_eq!(cut(text, &stops), expected);
        }
    }
}
