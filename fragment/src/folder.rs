//! Reads a GGUF from its pieces, without joining them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use gguf::{GgufError, Layout, Metadata, TensorInfo, TensorSource};

use crate::PieceError;
use crate::manifest::{Fragment, MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Tensor};
use crate::pieces::{Pieces, open_plain};

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
    /// Finds the manifest at `input`: the file itself, or `manifest.json` in the folder.
    ///
    /// # Errors
    /// When there is no manifest, or it is refused.
    pub fn find(input: &Path) -> anyhow::Result<Self> {
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

/// The pieces of one file, read as if they were the file.
///
/// Opening reads the header; a tensor is read from its pieces on request. The BLAKE3 of a piece is
/// verified once, before its first byte is used.
#[derive(Debug)]
pub struct FragmentFolder {
    manifest: Manifest,
    pieces: Pieces,
    metadata: Metadata,
    layout: Layout,
    /// For each piece, whether its hash was verified.
    verified: Vec<AtomicBool>,
}

impl FragmentFolder {
    /// Opens a folder with `manifest.json`, or a manifest by its own name.
    ///
    /// # Errors
    /// When the manifest is refused, a piece is missing or has the wrong size, or the header in
    /// the pieces and the manifest list different tensors.
    pub fn open(input: &Path) -> anyhow::Result<Self> {
        let Located { path, manifest, pieces } = Located::find(input)?;
        for fragment in &manifest.fragments {
            pieces.open(fragment)?;
        }
        let verified: Vec<AtomicBool> =
            manifest.fragments.iter().map(|_| AtomicBool::new(false)).collect();
        let header = read_header(&manifest, &pieces, &verified)?;
        let (metadata, layout) =
            gguf::parse_header(&header).with_context(|| path.display().to_string())?;
        check_layout(&manifest, &layout).with_context(|| path.display().to_string())?;
        Ok(FragmentFolder { manifest, pieces, metadata, layout, verified })
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
        let index = self.layout.index_of(tensor)?;
        let refuse = |source| GgufError::Source { name: tensor.name.clone(), source };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(range.len()).map_err(|error| refuse(error.into()))?;
        let mut before = 0;
        for shard in &self.manifest.tensors[index].shards {
            let end = before + shard.length;
            let from = before.max(range.start as u64);
            let to = end.min(range.end as u64);
            if from < to {
                let part = shard.offset + (from - before)..shard.offset + (to - before);
                let append = self.append(shard.fragment_id, part, &mut bytes);
                append.map_err(|error| refuse(error.into()))?;
            }
            before = end;
        }
        Ok(Cow::Owned(bytes))
    }

    /// Appends a part of a piece, whose hash is verified on first use.
    fn append(
        &self,
        fragment: usize,
        part: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), PieceError> {
        let verified = &self.verified[fragment];
        let fragment = &self.manifest.fragments[fragment];
        if verified.load(Ordering::Acquire) {
            return self.pieces.read_range(fragment, part.start, part.end - part.start, out);
        }
        let mut piece = Vec::new();
        self.pieces.read(fragment, &mut piece)?;
        verified.store(true, Ordering::Release);
        out.extend_from_slice(&piece[part.start as usize..part.end as usize]);
        Ok(())
    }
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

/// Opens anything that holds a model: pieces (a folder with `manifest.json`, or a manifest), a
/// GGUF, or a checkpoint folder.
///
/// # Errors
/// When it is none of these, or damaged.
pub fn open_source(path: &Path) -> anyhow::Result<Box<dyn TensorSource>> {
    match is_fragments(path) {
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
    match is_fragments(path) {
        true => Ok(Box::new(FragmentFolder::open(path)?)),
        false => Ok(checkpoint::open_weights(path)?),
    }
}

fn is_fragments(path: &Path) -> bool {
    path.to_string_lossy().ends_with(MANIFEST_NAME) || path.join(MANIFEST_NAME).exists()
}

/// Largest header that is read: a vocabulary of a million tokens takes a tenth of it.
const MAX_HEADER_BYTES: u64 = 1 << 28;

fn read_header(
    manifest: &Manifest,
    pieces: &Pieces,
    verified: &[AtomicBool],
) -> anyhow::Result<Vec<u8>> {
    let mut header = Vec::new();
    let mut piece = Vec::new();
    let size = manifest.header_size();
    ensure!(
        size <= MAX_HEADER_BYTES,
        "the manifest's first tensor begins after {size} bytes: expected at most {MAX_HEADER_BYTES}"
    );
    for fragment in manifest.covering(0, size) {
        pieces.read(fragment, &mut piece)?;
        verified[fragment.id].store(true, Ordering::Release);
        header.extend_from_slice(&piece[..piece.len().min((size - fragment.offset) as usize)]);
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
