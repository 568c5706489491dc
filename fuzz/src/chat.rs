//! A conversation and its template, from the sources of `generate`: the crate itself needs llama.cpp.

use std::borrow::Cow;

#[path = "../../generate/src/chat/conversation.rs"]
pub mod conversation;
#[path = "../../generate/src/chat/template/generation.rs"]
mod generation;
#[path = "../../generate/src/chat/template/mod.rs"]
pub mod template;

/// A template with `{% with %}` instead of `{% generation %}`.
pub fn without_generation(source: &str) -> Cow<'_, str> {
    generation::as_with(source)
}
