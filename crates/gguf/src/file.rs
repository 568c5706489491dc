//! A GGUF file, mapped into memory.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{GgufError, Layout, Metadata, TensorInfo, TensorSource, parse_header};

/// A GGUF file, mapped into memory: opening it reads the header only, and tensors are borrowed.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    layout: Layout,
}

impl GgufFile {
    /// Maps the file and checks its header, its tensor descriptions and its size.
    ///
    /// The padding behind the last tensor may be missing, since some writers leave it out and
    /// llama.cpp does not need it.
    ///
    /// # Errors
    /// [`GgufError::Io`] when the file cannot be read, [`GgufError::InFile`] with the reason when
    /// llama.cpp would refuse it, when it is cut short, or when something follows its last tensor.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let map = map(path).map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        let in_file =
            |source| GgufError::InFile { path: path.to_owned(), source: Box::new(source) };
        let (metadata, layout) = parse_header(&map).map_err(in_file)?;
        check_size(&layout, map.len() as u64).map_err(in_file)?;
        Ok(Self { path: path.to_owned(), map, metadata, layout })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where everything lies in this file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The whole file, header included, as it is on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Whether the file is, byte for byte, what a [`Writer`](crate::Writer) would write for its
    /// metadata and tensors: all padding present, and all of it zero.
    pub fn is_canonical(&self) -> bool {
        let Layout { tensors, data_start, file_size, .. } = &self.layout;
        if self.map.len() as u64 != *file_size {
            return false;
        }
        let Ok(header) = self.layout.header(&self.metadata) else {
            return false;
        };
        let ends = tensors.iter().map(|tensor| self.layout.end_of(tensor));
        let starts = tensors.iter().skip(1).map(|tensor| data_start + tensor.offset);
        let mut paddings = ends.zip(starts.chain([*file_size]));
        self.map.starts_with(&header)
            && paddings.all(|(from, to)| {
                self.map[from as usize..to as usize].iter().all(|&byte| byte == 0)
            })
    }
}

impl TensorSource for GgufFile {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.layout.tensors
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.layout.tensor(name)
    }

    /// # Errors
    /// [`GgufError::MissingTensor`] if `tensor` is not one of this file's own.
    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        self.layout.index_of(tensor)?;
        let missing = || GgufError::MissingTensor { name: tensor.name.clone() };
        let start = (self.layout.data_start + tensor.offset) as usize;
        let bytes = self.map.get(start..start + tensor.size as usize).ok_or_else(missing)?;
        Ok(Cow::Borrowed(bytes))
    }

    /// Drops the tensor's pages from this process; the system's file cache keeps them.
    #[cfg(unix)]
    fn release(&self, tensor: &TensorInfo) {
        let start = (self.layout.data_start + tensor.offset) as usize;
        if self.map.get(start..start + tensor.size as usize).is_some() {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and is never written to, so a page that was dropped
            // comes back from the file with the same bytes, also under a borrow of it. A failure
            // costs memory and nothing else.
            let _ = unsafe { self.map.unchecked_advise_range(advice, start, tensor.size as usize) };
        }
    }
}

/// The bytes of a file; a folder is refused by what it is.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let file = plain_file::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // SAFETY: the map is read-only and the bytes are plain. A file that another process shortens
    // meanwhile ends this one with SIGBUS, as it does llama.cpp; everything in this project is
    // replaced by renaming, which leaves a mapped file as it was.
    unsafe { Mmap::map(&file) }
}

/// Every byte of every tensor must be there, and nothing behind the canonical end.
fn check_size(layout: &Layout, size: u64) -> Result<(), GgufError> {
    let expected = layout.file_size;
    if size > expected {
        return Err(GgufError::TrailingBytes { expected, extra: size - expected });
    }
    let cut = layout.tensors.iter().find(|tensor| layout.end_of(tensor) > size);
    match cut {
        None => Ok(()),
        Some(tensor) => Err(GgufError::Truncated {
            what: format!("tensor {}", tensor.name),
            at: layout.data_start + tensor.offset,
            needed: tensor.size,
            left: size.saturating_sub(layout.data_start + tensor.offset),
        }),
    }
}
