//! Describes a folder of pieces from its manifest.

use std::path::Path;

use crate::folder::Located;
use crate::report::InspectReport;

/// Describes the file, its pieces and its tensors. No piece is opened.
///
/// # Errors
/// When there is no manifest, or it is refused.
pub fn inspect(input: &Path) -> anyhow::Result<InspectReport> {
    let Located { path, manifest, .. } = Located::find(input)?;
    Ok(InspectReport { path, manifest })
}
