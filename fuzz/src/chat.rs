//! A conversation and its template, from the sources of `generate`: the crate itself needs llama.cpp.

#[path = "../../generate/src/chat/conversation.rs"]
pub mod conversation;
#[path = "../../generate/src/chat/template/mod.rs"]
pub mod template;
