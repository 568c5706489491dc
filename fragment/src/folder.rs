//! Reads a GGUF from its pieces, without joining them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use gguf::{GgufError, Layout, Metadata, TensorInfo, TensorSource};

use crate::PieceError;
use crate::address::{Origin, is_address};
use crate::cache::Cache;
use crate::manifest::{Fragment, MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Tensor};
use crate::pieces::{Pieces, open_plain};
use crate::remote::{local, open_remote};
use crate::source::{FolderSource, PieceSource};
use crate::transport::Patience;

/// A manifest and the folder that holds its pieces.
#[derive(Debug)]
pub struct Located {
    /// Path of the manifest.
    pub path: PathBuf,
    /// The manifest, checked.
    pub manifest: Manifest,
    /// The pieces in the manifest's folder.
    pub pieces: Pieces,
}

impl Located {
    /// Finds the manifest at `input`: the file itself, or `manifest.json` in the folder. A model at
    /// an address is fetched into the cache of this user first.
    ///
    /// # Errors
    /// When there is no manifest, or it is refused.
    pub fn find(input: &Path) -> anyhow::Result<Self> {
        if is_address(input) {
            return Self::find(&local(input)?);
        }
        let path = if input.is_dir() { input.join(MANIFEST_NAME) } else { input.to_owned() };
        let manifest = read_manifest(&path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Located { path, manifest, pieces: Pieces::new(folder) })
    }
}

/// Reads and checks one manifest.
///
/// # Errors
/// When it cannot be read, or breaks a rule, which the error names.
pub fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    let mut text = Vec::new();
    open_plain(path)?
        .take(MAX_MANIFEST_BYTES + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Manifest::parse(&text).with_context(|| path.display().to_string())
}

/// The pieces of one file, read as if they were the file: those of a folder, or those at an address.
///
/// Opening reads the header; a tensor is read from its pieces on request. What is read was verified.
#[derive(Debug)]
pub struct FragmentFolder {
    manifest: Manifest,
    source: Box<dyn PieceSource>,
    metadata: Metadata,
    layout: Layout,
}

impl FragmentFolder {
    /// Opens a folder with `manifest.json`, a manifest by its own name, or an address.
    ///
    /// # Errors
    /// When the manifest is refused, a piece is missing or has the wrong size, or the header in
    /// the pieces and the manifest list different tensors.
    pub fn open(input: &Path) -> anyhow::Result<Self> {
        if is_address(input) {
            let origin = Origin::parse(input)?;
            let cache = Some(Cache::of_user()?);
            let (found, source) = open_remote(&[origin], Patience::default(), cache)?;
            return Self::over(found.manifest, Box::new(source))
                .with_context(|| input.display().to_string());
        }
        let Located { path, manifest, pieces } = Located::find(input)?;
        for fragment in &manifest.fragments {
            pieces.open(fragment)?;
        }
        let source = Box::new(FolderSource::new(pieces, &manifest));
        Self::over(manifest, source).with_context(|| path.display().to_string())
    }

    /// The file of a manifest, its pieces from any source.
    ///
    /// # Errors
    /// When the header cannot be read, or it and the manifest list different tensors.
    pub fn over(manifest: Manifest, source: Box<dyn PieceSource>) -> anyhow::Result<Self> {
        let header = read_header(&manifest, source.as_ref())?;
        let (metadata, layout) = gguf::parse_header(&header)?;
        check_layout(&manifest, &layout)?;
        Ok(FragmentFolder { manifest, source, metadata, layout })
    }

    /// The manifest that was opened.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layout of the file that the pieces form.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Some bytes of a tensor, from the pieces that contain them.
    fn read_range(
        &self,
        tensor: &TensorInfo,
        range: Range<usize>,
    ) -> Result<Cow<'_, [u8]>, GgufError> {
        let tensor = &self.manifest.tensors[self.layout.index_of(tensor)?];
        let range = range.start as u64..range.end as u64;
        let mut bytes = Vec::new();
        read_shards(&self.manifest, self.source.as_ref(), tensor, range, &mut bytes).map_err(
            |error| GgufError::Source { name: tensor.tensor_name.clone(), source: error.into() },
        )?;
        Ok(Cow::Owned(bytes))
    }
}

/// Appends some bytes of a tensor to `bytes`, from the pieces that contain them.
///
/// # Errors
/// When a piece is missing or damaged, or the memory is full.
pub(crate) fn read_shards(
    manifest: &Manifest,
    source: &dyn PieceSource,
    tensor: &Tensor,
    range: Range<u64>,
    bytes: &mut Vec<u8>,
) -> Result<(), ShardError> {
    bytes.try_reserve_exact(usize::try_from(range.end - range.start).unwrap_or(usize::MAX))?;
    let mut before = 0;
    for shard in &tensor.shards {
        let end = before + shard.length;
        let from = before.max(range.start);
        let to = end.min(range.end);
        if from < to {
            let part = shard.offset + (from - before)..shard.offset + (to - before);
            source.append(&manifest.fragments[shard.fragment_id], part, bytes)?;
        }
        before = end;
    }
    Ok(())
}

/// Why the bytes of a tensor could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// One of its pieces.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// More bytes than the memory has.
    #[error(transparent)]
    Memory(#[from] std::collections::TryReserveError),
}

impl TensorSource for FragmentFolder {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.layout.tensors
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.layout.tensor(name)
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        self.read_range(tensor, 0..tensor.size as usize)
    }

    fn read_matrix(&self, tensor: &TensorInfo, index: usize) -> Result<Cow<'_, [u8]>, GgufError> {
        self.read_range(tensor, gguf::matrix_range(tensor, index)?)
    }
}

/// Opens anything that holds a model: pieces (a folder with `manifest.json`, a manifest, or an
/// address), a GGUF, or a checkpoint folder.
///
/// # Errors
/// When it is none of these, or damaged.
pub fn open_source(path: &Path) -> anyhow::Result<Box<dyn TensorSource>> {
    match is_address(path) || is_fragments(path) {
        true => Ok(Box::new(FragmentFolder::open(path)?)),
        false => Ok(checkpoint::open_source(path)?),
    }
}

/// [`open_source`] for callers that already have a tokenizer: that of a checkpoint folder is not
/// read.
///
/// # Errors
/// As for [`open_source`].
pub fn open_weights(path: &Path) -> anyhow::Result<Box<dyn TensorSource>> {
    match is_address(path) || is_fragments(path) {
        true => Ok(Box::new(FragmentFolder::open(path)?)),
        false => Ok(checkpoint::open_weights(path)?),
    }
}

/// Whether the path is a folder with `manifest.json`, or a manifest.
pub fn is_fragments(path: &Path) -> bool {
    path.to_string_lossy().ends_with(MANIFEST_NAME) || path.join(MANIFEST_NAME).exists()
}

/// Largest header that is read: a vocabulary of a million tokens takes a tenth of it.
const MAX_HEADER_BYTES: u64 = 1 << 28;

fn read_header(manifest: &Manifest, source: &dyn PieceSource) -> anyhow::Result<Vec<u8>> {
    let mut header = Vec::new();
    let size = manifest.header_size();
    ensure!(
        size <= MAX_HEADER_BYTES,
        "the manifest's first tensor begins after {size} bytes: expected at most {MAX_HEADER_BYTES}"
    );
    for fragment in manifest.covering(0, size) {
        source.append(fragment, 0..fragment.size.min(size - fragment.offset), &mut header)?;
    }
    Ok(header)
}

/// The header in the pieces and the manifest must list the same tensors.
fn check_layout(manifest: &Manifest, layout: &Layout) -> anyhow::Result<()> {
    let data_end = layout.tensors.last().map_or(0, |last| last.offset + last.size);
    let end = layout.data_start.saturating_add(data_end);
    let size_fits = (end..=layout.file_size).contains(&manifest.file.size);
    ensure!(
        size_fits && layout.tensors.len() == manifest.tensors.len(),
        "the manifest has {} tensors in {} bytes, the header in its pieces {} in {}: \
         split the file again",
        manifest.tensors.len(),
        manifest.file.size,
        layout.tensors.len(),
        layout.file_size
    );
    let agrees = |info: &TensorInfo, tensor: &Tensor| {
        tensor.tensor_name == info.name
            && tensor.shape == info.shape
            && tensor.dtype == info.tensor_type
            && manifest.tensor_start(tensor) == layout.data_start.checked_add(info.offset)
    };
    for (info, tensor) in layout.tensors.iter().zip(&manifest.tensors) {
        ensure!(
            agrees(info, tensor),
            "tensor {}: name, shape, dtype or place differ between the manifest and the header \
             in its pieces: split the file again",
            tensor.tensor_name
        );
    }
    Ok(())
}

/// The pieces that belong to one tensor, as `3` or `3-5`.
pub(crate) fn piece_span(tensor: &Tensor) -> String {
    match (tensor.shards.first(), tensor.shards.last()) {
        (Some(a), Some(b)) if a.fragment_id != b.fragment_id => {
            format!("{}-{}", a.fragment_id, b.fragment_id)
        }
        (Some(a), _) => a.fragment_id.to_string(),
        _ => String::new(),
    }
}

/// The distinct pieces of some fragments: equal ones share a file.
pub(crate) fn distinct<'a>(
    fragments: impl IntoIterator<Item = &'a Fragment>,
) -> HashMap<&'a str, &'a Fragment> {
    fragments.into_iter().map(|fragment| (fragment.file.as_str(), fragment)).collect()
}
