//! The chat template that a run trains with.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use chat_template::{Answered, ChatTemplate, TemplateInput};
use checkpoint::{NewTemplate, write_with_template};
use serde_json::Value;
use tempfile::TempDir;

use super::formats::Example;
use super::typed::mark_json;
use crate::Tokenizer;

/// The name of the template that a model without one can be given.
pub const CHATML: &str = "chatml";

/// ChatML (OpenAI, 2023), as most small models have it.
const CHATML_TEMPLATE: &str = "\
{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The special tokens that it writes; the second ends an answer.
const CHATML_TOKENS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// The template `source`, in which `bos_token` and `eos_token` are those of `tokenizer`.
///
/// # Errors
/// When it is not a template.
pub fn template_of(tokenizer: &Tokenizer, source: &str) -> Result<ChatTemplate> {
    let text = |id: u32| tokenizer.token_bytes(id).map(String::from_utf8_lossy);
    let bos = tokenizer.bos().and_then(text);
    let eos = tokenizer.end_of_text().and_then(text);
    ChatTemplate::new(source, bos.as_deref(), eos.as_deref())
}

/// A template, and the tokenizer's tokens that it has to know.
pub struct TrainingTemplate {
    template: ChatTemplate,
    source: String,
    /// The spellings of special tokens, the longest first.
    specials: Vec<String>,
    /// The spellings of tokens that end an answer.
    ends: Vec<String>,
}

impl TrainingTemplate {
    /// The text that `data.chat_template` names: a file or `chatml`; otherwise the model's own.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no template.
    pub fn source(tokenizer: &Tokenizer, choice: Option<&Path>) -> Result<String> {
        match choice {
            Some(name) if name.as_os_str() == CHATML => Ok(CHATML_TEMPLATE.to_owned()),
            Some(path) => plain_file::read_to_string(path).with_context(|| {
                format!(
                    "data.chat_template: cannot read {}; expected a file or `chatml`",
                    path.display()
                )
            }),
            None => match tokenizer.chat_template() {
                Some(template) => Ok(template.to_owned()),
                None => bail!(
                    "the model has no chat template; name one with data.chat_template = \"{CHATML}\" \
                     or a file (--chat-template)"
                ),
            },
        }
    }

    /// Special tokens that the template named by `choice` needs: the last of them ends an answer.
    pub fn tokens_of(choice: Option<&Path>) -> &'static [&'static str] {
        match choice {
            Some(name) if name.as_os_str() == CHATML => &CHATML_TOKENS,
            _ => &[],
        }
    }

    /// `tokenizer`, whose other files lie in `folder`, with the template that `choice` names and the
    /// special tokens that it writes. The files of the result lie in the folder that is returned.
    ///
    /// # Errors
    /// As for [`TrainingTemplate::source`]; when the files cannot be read or written.
    pub fn install(
        tokenizer: &Tokenizer,
        folder: Option<&Path>,
        choice: &Path,
    ) -> Result<(Tokenizer, TempDir)> {
        let made = tempfile::Builder::new()
            .prefix("pocketgpt-tokenizer-")
            .tempdir()
            .context("cannot make a folder for the tokenizer")?;
        let text = Self::source(tokenizer, Some(choice))?;
        let tokens = Self::tokens_of(Some(choice));
        let template = NewTemplate { text: &text, tokens, end: tokens.last().copied() };
        write_with_template(made.path(), &tokenizer.tokenizer_json()?, folder, template)
            .context("the tokenizer with data.chat_template")?;
        Ok((Tokenizer::from_folder(made.path())?, made))
    }

    /// The template `source` for the tokens of `tokenizer`.
    ///
    /// # Errors
    /// When it is not a template.
    pub fn new(tokenizer: &Tokenizer, source: String) -> Result<Self> {
        let text = |id: u32| Some(String::from_utf8_lossy(tokenizer.token_bytes(id)?).into_owned());
        let template = template_of(tokenizer, &source)?;
        let specials = tokenizer.specials().into_iter().map(str::to_owned).collect();
        let ends = tokenizer.ends().iter().filter_map(|&id| text(id)).collect();
        Ok(TrainingTemplate { template, source, specials, ends })
    }

    /// The template's text.
    pub fn text(&self) -> &str {
        &self.source
    }

    /// Conversations as text with the answers that train. Special tokens that a message spells are
    /// marked, so that they stay text.
    ///
    /// # Errors
    /// For each conversation: what the template refuses, an answer that cannot be told from the
    /// text around it.
    pub fn render(&self, examples: &[Example], last_only: bool) -> Vec<Result<Answered>> {
        let inputs: Vec<(TemplateInput, usize)> =
            examples.iter().map(|example| self.input(example, last_only)).collect();
        let rendered = self.template.render_answered(&inputs).into_iter();
        rendered
            .zip(examples)
            .map(|(found, example)| self.choose(found?, example, last_only))
            .collect()
    }

    /// What the template reads, and the first message whose answer is wanted.
    fn input(&self, example: &Example, last_only: bool) -> (TemplateInput, usize) {
        let specials: Vec<&str> = self.specials.iter().map(String::as_str).collect();
        let mut messages = Value::Array(example.messages.clone());
        mark_json(&mut messages, &specials);
        let is_answer = |message: &Value| message["role"] == "assistant";
        let first = match last_only {
            true => example.messages.iter().rposition(is_answer).unwrap_or_default(),
            false => example.first,
        };
        (TemplateInput::from_json(&messages, &example.tools), first)
    }

    /// The answers that train: a template that marks them itself marks all.
    fn choose(
        &self,
        mut answered: Answered,
        example: &Example,
        last_only: bool,
    ) -> Result<Answered> {
        let Answered { text, answers } = &mut answered;
        if self.template.marks_answers() {
            let is_answer = |message: &&Value| message["role"] == "assistant";
            let before = example.messages[..example.first].iter().filter(is_answer).count();
            let skipped = if last_only { answers.len().saturating_sub(1) } else { before };
            ensure!(
                skipped < answers.len(),
                "the chat template marks {} answers with {{% generation %}}, and the prompt has \
                 {before}",
                answers.len()
            );
            answers.drain(..skipped);
        } else {
            for answer in answers {
                answer.end = answer.start + self.end_of_answer(&text[answer.clone()]);
            }
        }
        Ok(answered)
    }

    /// Where an answer ends: behind the token that ends it, if only white space follows.
    fn end_of_answer(&self, answer: &str) -> usize {
        let trimmed = answer.trim_end();
        match self.ends.iter().any(|end| trimmed.ends_with(end.as_str())) {
            true => trimmed.len(),
            false => answer.len(),
        }
    }
}
