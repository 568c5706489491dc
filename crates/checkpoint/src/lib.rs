//! Reads and writes checkpoints: weights and training state on disk.
//!
//! A checkpoint is a folder that `transformers` loads directly, with additional files to resume
//! training and to compare with in evaluation:
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
//! Conversely, a folder of Hugging Face is a checkpoint: its weights may be in shards, in 16 bits
//! and without a prefix, and settings that require an unsupported computation are refused by name.
//!
//! [`names`] maps the three names of every tensor, [`GgufView`] provides a checkpoint as the GGUF
//! that it would become, and [`open_source`] opens either. All output of any stage is written with
//! [`atomic`], so that a reader finds either the old output or the new one, never a partial one;
//! [`hash`] identifies which of the two it is.

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
pub use store::write_tensors;
pub use tensors::{NamedTensor, Tensors, transpose};
pub use tokenizer::{
    GgufForm, NewTemplate, PreTokenizer, SPACE_MARK, SpacePrefix, SpecialTokens,
    TOKENIZER_JSON_KEY, TokenType, Vocabulary, VocabularyKind, byte_token, splits, tokenizer_json,
    write_with_template,
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
/// The chat template in its own file, as in newer folders.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// The chat template in JSON, as in older processors.
pub const CHAT_TEMPLATE_JSON_FILE: &str = "chat_template.json";
/// The folder of named chat templates.
pub const ADDITIONAL_CHAT_TEMPLATES: &str = "additional_chat_templates";
/// Special tokens by their purpose, in older folders.
pub const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
/// The tokens that begin and end a text.
pub const GENERATION_FILE: &str = "generation_config.json";
/// The optimizer's moments.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The position in the training.
pub const TRAINER_FILE: &str = "trainer.json";
/// Token windows and their logits.
pub const GOLDEN_FILE: &str = "golden.safetensors";
