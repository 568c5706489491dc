//! Quantization: reads a GGUF (or a checkpoint, read as one) and writes a smaller GGUF.
//!
//! [`Rules`] give each tensor its type: a [`Recipe`] by llama-quantize's name, and the user's
//! changes to it. `gguf::blocks` encodes rows as bytes, with [`Importance`] as the weight of each
//! column's errors if it is given, and [`quantize_file`] streams one tensor after another through
//! both. Without a search the result equals the file that `llama-quantize` makes of the same input,
//! tensor by tensor and byte by byte.
//!
//! | module | what |
//! |---|---|
//! | `recipe`, `recipe_types`, `role`, `rules` | which tensor gets which type |
//! | `importance`, `calibration` | how much each column counts, from a text |
//! | `search` | codes that make up for each other's errors |
//! | `divergence` | how far predictions are from those of the model as it was |
//! | `budget` | types for a file of a given size |
//! | `input`, `plan`, `encode`, `output` | from rows to a file; `encode` is where weights become bytes |

mod budget;
mod calibration;
mod command;
mod divergence;
mod encode;
mod experts;
mod importance;
mod input;
mod job;
mod output;
mod plan;
mod planned;
mod recipe;
mod recipe_types;
mod report;
mod role;
mod rules;
mod search;
#[cfg(test)]
#[allow(dead_code, reason = "the integration tests need the rest")]
#[path = "../tests/quantize/models.rs"]
mod test_models;

pub use budget::{PlanFile, Target};
pub use calibration::Calibration;
pub use command::{Args, ImatrixArgs, Outcome, Verb, run};
pub use importance::{ImatrixFile, ImatrixJob, ImatrixReport, Importance, Sums, collect};
pub use job::{CalibrationText, QuantizeJob, quantize_file};
pub use plan::Fallback;
pub use planned::{PlannedTensor, planned};
pub use recipe::Recipe;
pub use report::{ImportanceReport, PlanReport, Report, SearchReport, TensorReport, TypeReport};
pub use rules::{Choice, Override, Rules};
