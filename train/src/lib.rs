//! Training: reads a run file and a text, writes a run folder with checkpoints.
//!
//! ```text
//! corpus ------> batches --\
//!                           loop -> optimizer -> weights --> checkpoints/step-N
//! schedule -> learning rate/   \--> metrics.jsonl --> loss.pdf, samples.txt
//! ```
//!
//! [`train`] is the whole stage. A run depends only on its run file and its text: all random
//! numbers follow from the seed and the step ([`kernels::random`]). A run that was stopped and
//! resumed therefore ends with the same bits as one that was not, on the same kind of device and
//! CPU.

mod allocator;
mod chart;
mod chat_tokenizer;
mod command;
mod corpus;
mod curves;
mod device;
mod evaluate;
mod folder;
mod init_from;
mod journal;
mod metrics;
mod objective;
mod optimizer;
mod passes;
mod plan;
mod qat;
mod reference;
mod report;
mod rewards;
mod sample;
mod schedule;
mod session;
mod state;
mod teacher;
mod tensors;

use std::path::Path;

use checkpoint::RunLock;
use cli::Interrupt;
use config::{ModelConfig, RunFile};
use data::Tokenizer;

pub use allocator::PageAllocator;
pub use command::{Args, EXAMPLES, Outcome, PlotArgs, Verb, run};
pub use curves::{CurvesReport, RunSummary};
pub use device::{auto_name as auto_device_name, check as check_device};
pub use folder::claim;
pub use report::{Losses, Report};
pub use rewards::Rewards;
pub use session::train;
pub use teacher::{RecordReport, record};

/// Settings of the caller that are not in the run file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on from the last checkpoint even if the settings have changed.
    pub resume: bool,
    /// Delete what an earlier run left in the run folder.
    pub overwrite: bool,
    /// Checked after every step; once requested, a checkpoint is written and training ends.
    pub interrupt: Interrupt,
    /// The run folder's lock, if the caller holds it already ([`claim`]).
    pub lock: Option<RunLock>,
    /// A further check of the model before its first step, for what later stages need.
    pub requirement: Option<Requirement>,
}

/// Refuses a model that the caller cannot use, before it is trained.
pub type Requirement = fn(&Prospect<'_>) -> anyhow::Result<()>;

/// What is known of a model before its first step.
#[derive(Debug, Clone, Copy)]
pub struct Prospect<'a> {
    /// The settings.
    pub run_file: &'a RunFile,
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// The tokenizer of the run.
    pub tokenizer: &'a Tokenizer,
    /// The text of the `tokenizer.json` that its checkpoints will have.
    pub tokenizer_json: &'a str,
    /// The folder whose other files are copied with `tokenizer.json`.
    pub tokenizer_folder: Option<&'a Path>,
}
