//! The run file: one TOML document that controls every stage.
//!
//! All defaults, units and limits of the project are defined here. A stage never has to guess,
//! because its [`RunFile`] is complete and valid.
//!
//! ```text
//! quickstart.toml + --set train.batch_size=4  --load-->  RunFile  --save-->  RUN/config.toml
//! ```

mod architecture;
mod attention;
mod block;
mod chat;
mod data;
mod error;
mod eval_task;
mod experts;
mod forward_stage;
mod license;
pub mod limits;
mod load;
mod model;
mod objective;
mod qat;
mod release;
mod run_file;
pub mod sampling;
mod schema;
mod sources;
mod stages;
mod teacher;
mod train;
mod validate;

pub use architecture::{Architecture, RopePairs};
pub use attention::{Attention, LayerAttention, RopeScaling, RopeShape, Rotation, Window};
pub use block::{
    BlockDesign, EmbeddingScale, FeedForward, NormKind, NormPlacement, NormWeight, Positions,
    Projections, QkNorm,
};
pub use chat::{ChatFormat, DataFormat, DocumentMask, TooLong, TrainOn};
pub use data::{Data, TokenizerKind};
pub use error::ConfigError;
pub use eval_task::{EvalTask, TaskKind};
pub use experts::{Experts, HasExperts};
pub use forward_stage::{BlockStage, ForwardStage, StageValues};
pub use license::canonical_license;
pub use model::{ModelConfig, ROPE_BASE};
pub use objective::Objective;
pub use qat::{Qat, QatStart};
pub use release::{DAY_FORM, RELEASES, is_day};
pub use run_file::{Bundle, Device, Eval, Export, Fragment, Gates, Model, Quantize, Run, RunFile};
pub use schema::run_file_schema;
pub use sources::{DataSource, OnError, Paths};
pub use stages::{Change, Settings, Stage};
pub use teacher::Teacher;
pub use train::{
    Initialization, Kernels, Lora, LoraTarget, Optimizer, OptimizerKind, Precision, Schedule,
    ScheduleKind, Train, lora_scale,
};
