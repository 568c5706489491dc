//! The file of a conversation, from the source of `generate`: the crate itself needs llama.cpp.

#[path = "../../generate/src/chat/conversation.rs"]
pub mod conversation;
