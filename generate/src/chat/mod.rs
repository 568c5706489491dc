//! `generate chat`: a conversation in the terminal.
//!
//! Each line of input is a turn. The whole conversation is rendered with the model's own chat
//! template, what the model has read before is not read again, and the file of `--save` is
//! written anew after every turn. Input may be a pipe.

mod answer;
pub mod bundled;
mod conversation;
mod stop;

use std::fmt;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::atomic::same_place;
use data::chat::template_of;
use data::encode_conversation;
use serde::Serialize;

pub use answer::{Answer, AnswerSettings, Answerer};
pub use chat_template::{ChatTemplate, Message, Speaker};
pub use conversation::Conversation;

use crate::decode::Stop;
use crate::sampling::{Sampler, Sampling};
use crate::source::{ModelJob, Ready};
use stop::Stopper;

/// What to talk with, and how.
#[derive(Debug, Clone)]
pub struct ChatJob {
    /// The model and its engine.
    pub model: ModelJob,
    /// How the model should behave.
    pub system: Option<String>,
    /// Where the conversation is kept.
    pub save: Option<PathBuf>,
    /// A conversation to go on with.
    pub resume: Option<PathBuf>,
    /// A template in place of the model's.
    pub template: Option<PathBuf>,
    /// Without a template: the model goes on from the text.
    pub plain: bool,
    /// Whether special tokens that a message spells count as such; otherwise they stay text.
    pub parse_special: bool,
    /// Replace the file of `save`.
    pub force: bool,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Most tokens of one answer.
    pub max_tokens: usize,
}

/// What was said.
#[derive(Debug, Serialize)]
pub struct ChatReport {
    /// The model's path, as given.
    pub model: String,
    /// All turns, those of a resumed conversation included.
    pub messages: Vec<Message>,
}

/// Nothing: the answers were shown while they were written.
impl fmt::Display for ChatReport {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Talks until the input ends, or says `/exit`. Answers go to stdout unless `quiet`.
///
/// # Errors
/// Bad settings, a model or file that cannot be used, a conversation that the template refuses.
pub fn chat(job: &ChatJob, quiet: bool) -> Result<ChatReport> {
    job.sampling.validate()?;
    let mut conversation = begin(job)?;
    let ready = Ready::load(&job.model)?;
    let form = Form::of(job, &ready.tokenizer)?;
    form.check(&conversation)?;
    let mut sampler = Sampler::new(job.sampling, job.seed)?;
    let mut answerer = Answerer::new(&ready)?;
    let stopper = Stopper::install()?;
    let person = std::io::stdin();
    let at_terminal = person.is_terminal();
    let mut screen = Screen { quiet, at_terminal, answers: 0 };
    if at_terminal {
        eprintln!("Type a message; Ctrl-C stops an answer, /exit or Ctrl-D leaves.");
    }
    let mut lines = person.lock().lines();
    loop {
        if at_terminal {
            eprint!("> ");
        }
        let Some(line) = lines.next().transpose().context("cannot read the input")? else { break };
        let said = line.trim();
        if said == "/exit" {
            break;
        }
        if said.is_empty() {
            continue;
        }
        conversation.messages.push(Message::user(said));
        stopper.begin();
        let settings = AnswerSettings {
            sampler: &mut sampler,
            max_tokens: job.max_tokens,
            stopped: &|| stopper.asked(),
        };
        match turn(job, &form, &conversation, &mut answerer, settings, &mut screen) {
            Ok(answer) => conversation.messages.push(Message::assistant(answer)),
            // At a terminal there is someone to say it in another way.
            Err(error) if at_terminal => {
                conversation.messages.pop();
                eprintln!("error: {}", cli::one_line(&error));
            }
            Err(error) => return Err(error),
        }
        if let Some(path) = job.save.as_ref().or(job.resume.as_ref()) {
            conversation.save(path)?;
        }
        stopper.end();
    }
    let model = job.model.path.display().to_string();
    Ok(ChatReport { model, messages: conversation.messages })
}

/// The conversation to go on with, or a new one.
fn begin(job: &ChatJob) -> Result<Conversation> {
    if let Some(save) = &job.save {
        let is_resumed = job.resume.as_ref().is_some_and(|resume| same_place(resume, save));
        ensure!(
            job.force || is_resumed || !save.exists(),
            "{} exists already; pass --resume to go on with it or --force to replace it",
            save.display()
        );
    }
    let Some(path) = &job.resume else {
        return Ok(Conversation::new(job.system.as_deref()));
    };
    let conversation = Conversation::load(path)?;
    let same = job.system.is_none() || job.system.as_deref() == conversation.system_prompt();
    ensure!(
        same,
        "{} has a system prompt of its own, or none; leave --system out to go on with it",
        path.display()
    );
    Ok(conversation)
}

/// Where answers appear. Each has a line of its own; the last one is ended by whoever prints the
/// report, unless a person is waiting for it.
struct Screen {
    quiet: bool,
    at_terminal: bool,
    answers: usize,
}

impl Screen {
    fn begin(&mut self) -> Result<()> {
        self.answers += 1;
        if self.at_terminal || self.answers == 1 { Ok(()) } else { self.show("\n") }
    }

    fn show(&self, piece: &str) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(piece.as_bytes())?;
        Ok(out.flush()?)
    }

    fn end(&self, stop: Option<Stop>) -> Result<()> {
        if self.at_terminal {
            self.show("\n")?;
        }
        match stop {
            Some(Stop::EndOfText) => {}
            Some(why) => eprintln!("({why})"),
            None => eprintln!("(stopped)"),
        }
        Ok(())
    }
}

/// Shows the answer to the last message and gives it back.
fn turn(
    job: &ChatJob,
    form: &Form,
    conversation: &Conversation,
    answerer: &mut Answerer<'_>,
    settings: AnswerSettings<'_>,
    screen: &mut Screen,
) -> Result<String> {
    let tokens = fit(job, form, conversation, answerer)?;
    screen.begin()?;
    let mut show = |piece: &str| screen.show(piece);
    let Answer { text, stop, .. } = answerer.answer(&tokens, settings, &mut show)?;
    screen.end(stop)?;
    Ok(text)
}

/// The tokens of the conversation, without its oldest turns where all of them do not fit.
fn fit(
    job: &ChatJob,
    form: &Form,
    conversation: &Conversation,
    answerer: &Answerer<'_>,
) -> Result<Vec<u32>> {
    let context = answerer.context_length();
    // Room for an answer, unless the context is so small that it would leave none for questions.
    let most = context - job.max_tokens.min(context / 4).max(1);
    let system = usize::from(conversation.system_prompt().is_some());
    let turns = (conversation.messages.len() - system) / 2;
    for dropped in 0..=turns {
        let messages = conversation.without_oldest(dropped);
        if messages.last().is_none_or(|last| last.role != Speaker::User) {
            break;
        }
        let tokenizer = &answerer.ready().tokenizer;
        let render = |messages: &[Message]| form.render(messages);
        let tokens = encode_conversation(tokenizer, &messages, job.parse_special, render)?;
        tokenizer.check_rows(&tokens, answerer.ready().model.vocab_size())?;
        ensure!(!tokens.is_empty(), "the message holds no token of this model");
        if tokens.len() <= most {
            if dropped > 0 {
                eprintln!(
                    "(the oldest {dropped} of {turns} turns no longer fit in the context of \
                     {context} tokens and are left out)"
                );
            }
            return Ok(tokens);
        }
    }
    bail!(
        "the message does not fit: the model's context has {context} tokens, {most} of them for \
         what is read; say it in fewer words"
    )
}

/// How a conversation becomes the text that the model reads.
enum Form {
    /// As its template says.
    Template(Box<ChatTemplate>),
    /// One turn behind the other, as a text.
    Plain,
}

impl Form {
    fn of(job: &ChatJob, tokenizer: &data::Tokenizer) -> Result<Self> {
        if job.plain {
            return Ok(Form::Plain);
        }
        let given = job.template.as_deref().map(read_template).transpose()?;
        let Some(source) = given.as_deref().or(tokenizer.chat_template()) else {
            bail!(
                "{} has no chat template, so it was not made for conversations; pass --plain to \
                 have it go on from what you type, or --template FILE",
                job.model.path.display()
            );
        };
        let template = template_of(tokenizer, source)?;
        Ok(Form::Template(Box::new(template)))
    }

    /// Before the first question, so that a system prompt is not lost in silence.
    fn check(&self, conversation: &Conversation) -> Result<()> {
        match self {
            Form::Template(template) if conversation.system_prompt().is_some() => {
                ensure!(
                    template.takes_system(),
                    "the model's chat template takes no system prompt; leave --system out"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn render(&self, messages: &[Message]) -> Result<String> {
        match self {
            Form::Template(template) => template.render(messages),
            Form::Plain => {
                let texts: Vec<&str> = messages.iter().map(|said| said.content.as_str()).collect();
                Ok(texts.join("\n"))
            }
        }
    }
}

fn read_template(path: &Path) -> Result<String> {
    plain_file::read_to_string(path)
        .with_context(|| format!("cannot read the template {}", path.display()))
}
