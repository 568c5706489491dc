//! Tokens of a question, as lm-evaluation-harness's `HFLM` makes them: a context and its
//! continuation are encoded together, and what is behind the context's own tokens is scored.

use anyhow::{Context as _, Result, bail, ensure};
use data::Tokenizer;
use data::chat::template_of;
use generate::chat::ChatTemplate;

use super::layout::Answer;
use super::likelihood::Scored;
use super::python::rstrip;
use super::task::{Context, Task};

/// Encodes for one model.
pub struct Encoder<'m> {
    tokenizer: &'m Tokenizer,
    /// Rows of the model's embedding.
    rows: usize,
    /// The token before a continuation without a context, and its spelling: the one that begins a
    /// text, otherwise the one that ends it.
    prefix: Option<(u32, String)>,
    template: Option<ChatTemplate>,
    /// Tokens that the model reads at once, at most.
    context_length: usize,
}

impl<'m> Encoder<'m> {
    /// For a model with `rows` rows in its embedding that reads `context_length` tokens at once.
    ///
    /// # Errors
    /// When a conversation is asked for and the model has no chat template.
    pub fn new(
        tokenizer: &'m Tokenizer,
        rows: usize,
        context_length: usize,
        converses: bool,
    ) -> Result<Self> {
        let prefix = tokenizer.bos().or(tokenizer.end_of_text()).map(|id| {
            let spelling = tokenizer.token_bytes(id).map(String::from_utf8_lossy);
            (id, spelling.unwrap_or_default().into_owned())
        });
        let template = match (converses, tokenizer.chat_template()) {
            (false, _) => None,
            (true, Some(source)) => Some(template_of(tokenizer, source)?),
            (true, None) => bail!(
                "the model has no chat template, so it was not made for conversations: leave --chat \
                 out, and give `prompt` in place of `messages`"
            ),
        };
        Ok(Encoder { tokenizer, rows, prefix, template, context_length })
    }

    /// The text that the model reads.
    ///
    /// # Errors
    /// When the chat template refuses the conversation.
    pub fn text(&self, context: Context) -> Result<String> {
        match (context, &self.template) {
            (Context::Text(text), _) => Ok(text),
            (Context::Messages(messages), Some(template)) => template.render(&messages),
            (Context::Messages(_), None) => bail!("a conversation needs --chat"),
        }
    }

    /// `tok_encode`: special tokens are recognised, and the token that begins a text goes before it
    /// unless the text spells it.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let begins = |(_, spelling): &(u32, String)| {
            !spelling.is_empty() && text.starts_with(spelling.as_str())
        };
        let tokenizer = self.tokenizer;
        Ok(match self.prefix.as_ref().is_some_and(begins) {
            true => tokenizer.encode_with_specials(text)?,
            false => tokenizer.encode_prompt(text)?,
        })
    }

    /// `_encode_pair`: the tokens of a context and those of its continuation.
    ///
    /// # Errors
    /// When the vocabulary lacks something of the text, or there is nothing to read before the
    /// continuation.
    pub fn pair(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let kept = rstrip(context);
        if !kept.is_empty() {
            // Spaces at the end of the context belong to the first word behind it.
            let whole = self.encode(&format!("{context}{continuation}"))?;
            let context = self.encode(kept)?;
            let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
            return Ok((context, continuation));
        }
        let text = format!("{context}{continuation}");
        let continuation = self.tokenizer.encode_with_specials(&text)?;
        let (prefix, _) = self.prefix.as_ref().context(
            "the question is empty, and the tokenizer has no token that begins or ends a text",
        )?;
        Ok(match continuation.split_first() {
            Some((first, rest)) if first == prefix => (vec![*first], rest.to_vec()),
            _ => (vec![*prefix], continuation),
        })
    }

    /// The tokens of every choice of a question behind its context, cut on the left to what the
    /// model can read.
    ///
    /// # Errors
    /// When a choice has no token of its own, or more than the model can read.
    pub fn choices(&self, task: &Task, context: &str, answer: &Answer) -> Result<Vec<Scored>> {
        let Answer::Choice { choices, .. } = answer else { return Ok(Vec::new()) };
        let scored = |(index, choice): (usize, &String)| -> Result<Scored> {
            let (before, own) = self.pair(context, &format!("{}{choice}", task.delimiter()))?;
            ensure!(!own.is_empty(), "choice {index} (from 0) has no token of its own");
            ensure!(
                own.len() <= self.context_length,
                "choice {index} (from 0) has {} tokens; expected at most the context of {}",
                own.len(),
                self.context_length
            );
            let continuation = own.len();
            let mut tokens = [before, own].concat();
            // The last token is not read.
            let surplus = tokens.len().saturating_sub(self.context_length + 1);
            tokens.drain(..surplus);
            self.tokenizer.check_rows(&tokens, self.rows)?;
            Ok(Scored { tokens, continuation })
        };
        choices.iter().enumerate().map(scored).collect()
    }

    /// The tokens of a prompt, cut on the left so that an answer of `max_tokens` has room.
    ///
    /// # Errors
    /// When there is no room, or the prompt has no token.
    pub fn prompt(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        let limit = self.context_length;
        ensure!(
            max_tokens < limit,
            "--max-tokens {max_tokens}: expected fewer than the context of {limit}"
        );
        let mut tokens = self.encode(text)?;
        let surplus = tokens.len().saturating_sub(limit - max_tokens);
        tokens.drain(..surplus);
        ensure!(!tokens.is_empty(), "the prompt is empty; expected a text");
        self.tokenizer.check_rows(&tokens, self.rows)?;
        Ok(tokens)
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
