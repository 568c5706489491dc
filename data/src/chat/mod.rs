//! Conversations for training: from records to tokens of which some train.
//!
//! ```text
//! record --formats--> messages --chat template--> text with its answers --tokens--> ids, and which train
//!        --packing--> windows of several whole conversations
//! ```

mod command;
mod counts;
mod encode;
mod encode_pairs;
mod formats;
mod inspect;
mod packing;
mod preference;
mod template;
mod tokens;
mod typed;

pub(crate) use command::ChatArgs;
pub use counts::{ChatCounts, Unit};
pub use encode::{ChatSettings, encode_chat};
pub use encode_pairs::{PairSettings, PairWindows, encode_pairs, holds_pairs};
pub use formats::{Example, example};
pub use inspect::{ChatInspection, inspect_chat};
pub use packing::{ConversationWindows, pack};
pub use preference::{PreferencePair, PreferenceTokens, preference_pair, preference_tokens};
pub use template::{CHATML, TrainingTemplate, template_of};
pub use tokens::{ChatTokens, chat_tokens};
pub use typed::encode_conversation;
