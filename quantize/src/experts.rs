//! Refuses what is not supported for models with experts.

use anyhow::bail;
use gguf::TensorSource;

use crate::QuantizeJob;

/// Refuses a search and a target size for a model with experts: both measure a matrix with the
/// inputs of every token, and hold all its weights in memory.
///
/// # Errors
/// Names the first tensor of experts, and what can be done instead.
pub(crate) fn refuse(job: &QuantizeJob, source: &dyn TensorSource) -> anyhow::Result<()> {
    let what = match (job.search, job.target) {
        (_, Some(_)) => "types for a target size are not chosen",
        (true, None) => "codes are not searched",
        (false, None) => return Ok(()),
    };
    match source.tensors().iter().find(|tensor| tensor.matrices() > 1) {
        None => Ok(()),
        Some(tensor) => bail!(
            "tensor {} holds {} experts, for which {what}: make importance data of the text with \
             `quantize imatrix`, then give --type with --imatrix in place of --calibration",
            tensor.name,
            tensor.matrices()
        ),
    }
}
