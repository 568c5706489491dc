//! Writes the bytes of one tensor, of a model that need not be here.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use checkpoint::atomic;
use serde::Serialize;

use crate::address::{Origin, is_address};
use crate::cache::Cache;
use crate::folder::{Located, read_shards};
use crate::manifest::{Manifest, Tensor};
use crate::mirrors::SourceReport;
use crate::remote::open_remote;
use crate::source::{FolderSource, PieceSource};
use crate::transport::Patience;

/// The input of [`extract`].
#[derive(Debug, Clone)]
pub struct ExtractJob {
    /// A folder with `manifest.json`, a manifest, or an address.
    pub input: PathBuf,
    /// Name of the tensor.
    pub tensor: String,
    /// The file for its bytes.
    pub output: PathBuf,
    /// Replace the file if it exists.
    pub force: bool,
}

/// What `extract` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtractReport {
    /// The file.
    pub output: PathBuf,
    /// Name of the tensor.
    pub tensor: String,
    /// Fastest dimension first, as GGUF stores it.
    pub shape: Vec<u64>,
    /// Number format.
    pub dtype: String,
    /// Bytes.
    pub size: u64,
    /// What the source gave; nothing for a folder.
    pub sources: Vec<SourceReport>,
}

/// Writes the stored bytes of one tensor to a file. Of a model at an address, little more than these
/// is moved: the manifest, and of the pieces what is needed to verify the part.
///
/// # Errors
/// When there is no such tensor, its bytes cannot be read or are damaged, or the file exists.
pub fn extract(job: &ExtractJob) -> anyhow::Result<ExtractReport> {
    if !is_address(&job.input) {
        let Located { manifest, pieces, .. } = Located::find(&job.input)?;
        let source = FolderSource::new(pieces, &manifest);
        return write(job, &manifest, &source, Vec::new);
    }
    let origin = Origin::parse(&job.input)?;
    let cache = Cache::of_user()?;
    let (found, source) = open_remote(&[origin], Patience::default(), Some(cache))?;
    write(job, &found.manifest, &source, || source.report())
}

fn write(
    job: &ExtractJob,
    manifest: &Manifest,
    source: &dyn PieceSource,
    report: impl FnOnce() -> Vec<SourceReport>,
) -> anyhow::Result<ExtractReport> {
    let (tensor, bytes) = read_tensor(manifest, source, &job.tensor)
        .with_context(|| job.input.display().to_string())?;
    atomic::write_file(&job.output, job.force, |out| {
        out.write_all(&bytes).with_context(|| format!("cannot write {}", job.output.display()))
    })?;
    Ok(ExtractReport {
        output: job.output.clone(),
        tensor: tensor.tensor_name.clone(),
        shape: tensor.shape.clone(),
        dtype: tensor.dtype.name().to_owned(),
        size: bytes.len() as u64,
        sources: report(),
    })
}

/// The stored bytes of a tensor, without reading the header of its file.
///
/// # Errors
/// When there is no such tensor, or its bytes cannot be read or are damaged.
pub fn read_tensor<'a>(
    manifest: &'a Manifest,
    source: &dyn PieceSource,
    name: &str,
) -> anyhow::Result<(&'a Tensor, Vec<u8>)> {
    let tensor = manifest
        .tensors
        .iter()
        .find(|tensor| tensor.tensor_name == name)
        .with_context(|| format!("there is no tensor {name}; fragment inspect lists them"))?;
    let size = tensor.shards.iter().map(|shard| shard.length).sum();
    let mut bytes = Vec::new();
    read_shards(manifest, source, tensor, 0..size, &mut bytes)
        .with_context(|| format!("tensor {name}"))?;
    Ok((tensor, bytes))
}

impl fmt::Display for ExtractReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "output   {}", Path::display(&self.output))?;
        write!(
            f,
            "tensor   {} {} {:?}, {}",
            self.tensor,
            self.dtype,
            self.shape,
            cli::bytes(self.size)
        )?;
        for source in &self.sources {
            write!(f, "\nfrom     {}: {}", source.source, cli::bytes(source.bytes))?;
        }
        Ok(())
    }
}
