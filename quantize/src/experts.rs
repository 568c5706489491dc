//! Refuses what is not supported for models with experts.

use anyhow::bail;
use gguf::TensorSource;

/// Refuses a search and a target size for a model with experts: both measure a matrix with the
/// inputs of every token, and hold all its weights in memory.
///
/// # Errors
/// Names the first tensor of experts, and what can be done instead.
pub(crate) fn refuse(
    searches: bool,
    has_target: bool,
    source: &dyn TensorSource,
) -> anyhow::Result<()> {
    let what = match (searches, has_target) {
        (_, true) => "types for a target size are not chosen",
        (true, false) => "codes are not searched",
        (false, false) => return Ok(()),
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
