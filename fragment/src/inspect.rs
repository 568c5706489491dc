//! Describes a model in pieces from its manifest.

use std::path::Path;

use crate::address::{Origin, is_address};
use crate::folder::Located;
use crate::remote::open_remote;
use crate::report::InspectReport;
use crate::transport::Patience;

/// Describes the file, its pieces and its tensors. No piece is opened: of an address, the manifest
/// is all that is fetched.
///
/// # Errors
/// When there is no manifest, or it is refused.
pub fn inspect(input: &Path) -> anyhow::Result<InspectReport> {
    if is_address(input) {
        let (found, _) = open_remote(&[Origin::parse(input)?], Patience::default(), None)?;
        return Ok(InspectReport { path: input.to_owned(), manifest: found.manifest });
    }
    let Located { path, manifest, .. } = Located::find(input)?;
    Ok(InspectReport { path, manifest })
}
