//! Weights and state on disk.
//!
//! A checkpoint is a folder that `transformers` loads as it is, plus what training needs to go
//! on and what evaluation needs to compare with:
//!
//! ```text
//! step-000090/
//!   config.json             shape of the model               Hugging Face
//!   model.safetensors       weights, float32                 Hugging Face's names and orientation
//!   tokenizer.json          and tokenizer_config.json        Hugging Face
//!   generation_config.json                                   Hugging Face
//!   optimizer.safetensors   moments by parameter name        training only
//!   trainer.json            step, place in the epoch         training only
//!   golden.safetensors      tokens and the logits for them   evaluation
//!   adapter/                what LoRA trained, for peft      after training with LoRA
//! ```
//!
//! The other way round, a folder of Hugging Face is a checkpoint: its weights may be in shards, in
//! 16 bits and without a prefix, and what it asks for and is not computed here is refused by name.
//!
//! [`names`] ties the three names of every tensor together, [`GgufView`] shows a checkpoint as
//! the GGUF that it would become, and [`open_source`] opens either. Everything that any stage
//! writes goes through [`atomic`], so that a reader finds the old output or the new one and
//! never a half; [`hash`] says which of the two it has.

#[cfg(target_endian = "big")]
compile_error!("weights are stored little-endian and are read and written as they lie in memory");

pub mod atomic;
mod convert;
mod error;
mod folder;
mod foreign;
mod gguf_attention;
mod gguf_keys;
mod gguf_view;
mod golden;
pub mod hash;
mod hf_config;
mod limits;
pub mod lora;
pub mod names;
mod quantized;
mod run_lock;
mod save;
mod stacked_experts;
mod store;
mod tensors;
mod tokenizer;
mod trainer;
mod weights;

pub use error::CheckpointError;
pub use folder::{Checkpoint, latest, locate, run_dir};
pub use gguf_keys::gguf_config;
pub use gguf_view::{GgufView, open_source, open_weights};
pub use golden::Golden;
pub use limits::{check_fetched, read_text};
pub use run_lock::RunLock;
pub use save::{
    AdapterContents, CheckpointContents, HuggingFaceFiles, REHEARSAL_PREFIX, rehearse_save, save,
    save_adapted, save_hugging_face,
};
pub use tensors::{NamedTensor, Tensors, transpose};
pub use tokenizer::{
    GgufForm, PreTokenizer, SPACE_MARK, SpacePrefix, SpecialTokens, TOKENIZER_JSON_KEY, TokenType,
    Vocabulary, VocabularyKind, byte_token, splits, tokenizer_json,
};
pub use trainer::TrainerState;
pub use weights::{Dictionary, Dtype, TorchFile, Weights, pickle};

/// Shape of the model.
pub const CONFIG_FILE: &str = "config.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Vocabulary and merges.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// What `transformers` needs to pick a tokenizer class.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// The chat template by itself, as newer folders have it.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// The chat template in JSON, as older processors have it.
pub const CHAT_TEMPLATE_JSON_FILE: &str = "chat_template.json";
/// The folder of chat templates that have a name.
pub const ADDITIONAL_CHAT_TEMPLATES: &str = "additional_chat_templates";
/// Special tokens by their purpose, in older folders.
pub const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
/// Which tokens begin and end a text.
pub const GENERATION_FILE: &str = "generation_config.json";
/// The optimizer's moments.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Where training stands.
pub const TRAINER_FILE: &str = "trainer.json";
/// Token windows and their logits.
pub const GOLDEN_FILE: &str = "golden.safetensors";
