//! What a run minimises.

use anyhow::Context;
use config::{ChatFormat, DataFormat, Objective, RunFile};
use data::chat::holds_pairs;
use kernels::Distillation;
use model::preference::Preference;

use crate::reference::Reference;
use crate::teacher::Lessons;

/// The objective that the run file names, or that its data imply.
///
/// # Errors
/// When the data cannot be opened, or the run file and the objective do not fit each other.
pub fn of_run(run_file: &RunFile) -> anyhow::Result<Objective> {
    let (data, train) = (&run_file.data, &run_file.train);
    let found = match (train.objective, data.chat_format) {
        (Some(objective), _) => objective,
        (None, Some(ChatFormat::Preference)) => Objective::Dpo,
        (None, None)
            if data.format == DataFormat::Chat
                && holds_pairs(&data::Corpus::of_run_file(data)?) =>
        {
            Objective::Dpo
        }
        (None, _) => Objective::NextToken,
    };
    if found == Objective::Dpo {
        run_file.check_preference().context(
            "the records are pairs of answers, which train.objective = \"dpo\" learns from",
        )?;
    }
    Ok(found)
}

/// The loss of the passes of a step.
#[derive(Clone, Copy)]
pub enum StepLoss<'a> {
    /// Cross-entropy of the next token.
    NextToken,
    /// The same, and the divergence from the predictions of a teacher.
    Distilled(Lessons<'a>, Distillation),
    /// DPO, with the log-probabilities of the answers at the start of the run.
    Preference(Preference, &'a Reference),
}

/// The settings of DPO.
pub fn preference(train: &config::Train) -> Preference {
    Preference { beta: train.dpo_beta, label_smoothing: train.dpo_label_smoothing }
}
