//! The one thread that has the model. It takes one request after the other; what it has read of a
//! conversation is kept, so that the next turn of it begins where this one ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use data::chat::template_of;
use data::encode_conversation;
use generate::chat::{AnswerSettings, Answerer, ChatTemplate};
use generate::decode::Stop;
use generate::sampling::Sampler;
use generate::{ModelJob, Ready};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};

use super::answer::{Failure, Finish, Usage};
use super::request::{Asked, Prompt};
use super::stop_texts::StopTexts;

/// Requests that wait for their turn; more are told to come again.
const MOST_WAITING: usize = 32;

/// What comes of a request, in this order: any number of parts, then an end or a failure.
#[derive(Debug)]
pub enum Event {
    Part(String),
    End(Finish, Usage),
    Failed(Failure),
}

struct Task {
    asked: Asked,
    events: UnboundedSender<Event>,
}

/// The thread, for those who ask. Clones are the same one.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    name: String,
    tasks: Sender<Task>,
    answers: AtomicU64,
    ending: AtomicBool,
}

/// Starts the thread and waits until its model is loaded.
///
/// # Errors
/// When the model cannot be loaded.
pub fn start(job: ModelJob, name: String) -> Result<(Worker, JoinHandle<()>)> {
    let (tasks, queue) = channel(MOST_WAITING);
    let (answers, ending) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = Worker(Arc::new(Inner { name, tasks, answers, ending }));
    let (loaded, outcome) = std::sync::mpsc::channel();
    // It must not keep the queue open itself.
    let inner = Arc::downgrade(&worker.0);
    let thread = std::thread::Builder::new().name("model".to_owned()).spawn(move || {
        let (ready, template) = match load(&job) {
            Ok(model) => model,
            Err(error) => return drop(loaded.send(Err(error))),
        };
        let mut answerer = match Answerer::new(&ready) {
            Ok(answerer) => answerer,
            Err(error) => return drop(loaded.send(Err(error))),
        };
        loaded.send(Ok(())).ok();
        let is_ending = || inner.upgrade().is_none_or(|inner| inner.ending.load(Ordering::Relaxed));
        work(queue, &mut answerer, template.as_ref(), &is_ending);
    });
    let thread = thread.context("cannot start a thread")?;
    outcome.recv().context("the model's thread ended")??;
    Ok((worker, thread))
}

fn load(job: &ModelJob) -> Result<(Ready, Option<ChatTemplate>)> {
    let ready = Ready::load(job)?;
    let source = ready.tokenizer.chat_template();
    let template = source.map(|source| template_of(&ready.tokenizer, source)).transpose()?;
    Ok((ready, template))
}

impl Worker {
    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Answers begun so far.
    pub fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Ends the answer under way, and begins no other.
    pub fn end(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    /// Asks; the number of the answer, and what comes of it. To drop the receiver ends the answer.
    ///
    /// # Errors
    /// When too many others wait.
    pub fn ask(&self, asked: Asked) -> Result<(u64, UnboundedReceiver<Event>), Failure> {
        let (events, receiver) = unbounded_channel();
        self.0.tasks.try_send(Task { asked, events }).map_err(|error| match error {
            TrySendError::Full(_) => {
                let message = format!("{MOST_WAITING} requests wait already; try again later");
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            TrySendError::Closed(_) => {
                let message = "the model's thread has ended; start the server again";
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        })?;
        Ok((self.0.answers.fetch_add(1, Ordering::Relaxed) + 1, receiver))
    }
}

fn work(
    mut queue: Receiver<Task>,
    answerer: &mut Answerer<'_>,
    template: Option<&ChatTemplate>,
    is_ending: &dyn Fn() -> bool,
) {
    while let Some(Task { asked, events }) = queue.blocking_recv() {
        // Whoever has gone needs no answer.
        let stopped = || events.is_closed() || is_ending();
        if stopped() {
            continue;
        }
        let last = match answer(asked, answerer, template, &stopped, &events) {
            Ok((finish, usage)) => Event::End(finish, usage),
            Err(failure) => Event::Failed(failure),
        };
        events.send(last).ok();
    }
}

fn answer(
    asked: Asked,
    answerer: &mut Answerer<'_>,
    template: Option<&ChatTemplate>,
    stopped: &dyn Fn() -> bool,
    events: &UnboundedSender<Event>,
) -> Result<(Finish, Usage), Failure> {
    let bad = |error: anyhow::Error| Failure::new(StatusCode::BAD_REQUEST, cli::one_line(&error));
    let tokens = tokens_of(&asked.prompt, answerer.ready(), template).map_err(bad)?;
    let context = answerer.context_length();
    if tokens.len() >= context {
        return Err(Failure {
            code: Some("context_length_exceeded"),
            ..Failure::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "the prompt has {} tokens, and the model's context has {context}, the answer \
                     included; leave out the oldest messages",
                    tokens.len()
                ),
            )
        });
    }
    let seed = asked.seed.unwrap_or_else(random_seed);
    let mut sampler = Sampler::new(asked.sampling, seed).map_err(bad)?;
    let mut filter = StopTexts::new(asked.stops);
    let found = std::cell::Cell::new(false);
    let settings = AnswerSettings {
        sampler: &mut sampler,
        max_tokens: asked.max_tokens,
        stopped: &|| found.get() || stopped(),
    };
    let send = |text: String| {
        if !text.is_empty() {
            events.send(Event::Part(text)).ok();
        }
    };
    let outcome = answerer.answer(&tokens, settings, &mut |piece| {
        send(filter.push(piece));
        found.set(filter.found());
        Ok(())
    });
    let outcome = outcome
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, cli::one_line(&error)))?;
    let has_stopped = filter.found();
    send(filter.finish());
    let finish = match outcome.stop {
        _ if has_stopped => Finish::Stop,
        Some(Stop::EndOfText) => Finish::Stop,
        Some(Stop::MaxTokens | Stop::ContextFull) | None => Finish::Length,
    };
    let (prompt, cached) = (tokens.len(), outcome.known);
    Ok((finish, Usage { prompt, cached, answer: outcome.tokens }))
}

fn tokens_of(prompt: &Prompt, ready: &Ready, template: Option<&ChatTemplate>) -> Result<Vec<u32>> {
    let messages = match prompt {
        Prompt::Text(text) => return ready.encode(text),
        Prompt::Messages(messages) => messages,
    };
    let template = template.context(
        "this model has no chat template, so it was not made for conversations; \
         /v1/completions continues a text",
    )?;
    let render = |messages: &[_]| template.render(messages);
    // Special tokens that somebody typed stay text.
    let tokens = encode_conversation(&ready.tokenizer, messages, false, render)?;
    ready.tokenizer.check_rows(&tokens, ready.model.vocab_size())?;
    anyhow::ensure!(!tokens.is_empty(), "the messages hold no token of this model");
    Ok(tokens)
}

/// Another one at each call: `RandomState` has keys of the system's.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
