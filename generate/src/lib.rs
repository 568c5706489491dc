//! Decoding strategies: one text, several side by side, and a plot of temperatures.
//!
//! A model is read from a checkpoint folder, a GGUF file or its fragments and run by an [`Engine`]:
//! our own reference pass with its cache, or llama.cpp, which reads GGUF files only. [`sampling`]
//! turns logits into tokens, as pure functions; [`decode`](decode::decode) is the loop;
//! [`stream::Utf8Stream`] decodes tokens to text when a token may end within a character.

pub mod chat;
mod command;
mod compare;
pub mod decode;
mod engine;
pub mod repetition;
pub mod sampling;
mod source;
pub mod stream;
mod temperature;
mod text;

use anyhow::Result;
use gguf::TensorSource;

pub use command::{Args, Report, run};
pub use compare::{CompareJob, CompareReport, ComparedText, compare, usual_strategies};
pub use engine::{Engine, EngineKind, LoadedModel};
pub use source::{ModelJob, Ready};
pub use temperature::{TemperatureJob, TemperatureReport, TokenAtTemperatures, temperature_plot};
pub use text::{GenerateJob, TextReport, generate, write_text};

/// The `n` most likely tokens after `tokens`, one by one, computed by the reference pass.
///
/// # Errors
/// When the model cannot be loaded, or the tokens do not fit in its context.
pub fn continue_greedy(source: &dyn TensorSource, tokens: &[u32], n: usize) -> Result<Vec<u32>> {
    let mut session = reference::Model::load(source)?.session();
    let mut sampler = sampling::Sampler::new(sampling::Sampling::GREEDY, 0)?;
    let limits = decode::Limits { max_tokens: n, end_of_text: &[] };
    Ok(decode::decode(&mut session, &[], tokens, &mut sampler, limits, &mut |_| Ok(()))?.tokens)
}
