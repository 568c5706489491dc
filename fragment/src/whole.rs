//! The file that is cut: a GGUF on the disk, or the file that results from joining the GGUFs of one
//! model.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use checkpoint::hash::{Digests, Hasher, hash_file};
use gguf::{GgufFile, GgufParts, Layout, TensorSource};

/// Bytes of a joined file that are hashed at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Size and hashes of the GGUF at `path`; if it is one part of several, those of the joined file.
///
/// # Errors
/// When it cannot be read, or a part is missing.
pub fn digests(path: &Path) -> anyhow::Result<Digests> {
    Whole::open(path)?.digests()
}

/// The bytes of one GGUF.
pub(crate) struct Whole {
    name: String,
    size: u64,
    parts: GgufParts,
    /// The header of the joined file; `None` if there is only one file.
    header: Option<Vec<u8>>,
}

impl Whole {
    /// Opens the GGUF at `path`, and the other parts of its model if it is one of several.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let parts = GgufParts::open(path)?;
        let named = gguf::whole_name(path);
        let (named, header, size) = match parts.files() {
            // Not `layout.file_size`: other tools leave the padding of the last tensor out.
            [file] => (path, None, file_size(file.path())?),
            _ => {
                let header = parts.layout().header(parts.metadata())?;
                (named.as_path(), Some(header), parts.layout().file_size)
            }
        };
        let name = named.file_name().and_then(|name| name.to_str());
        let name =
            name.with_context(|| format!("{}: expected a UTF-8 file name", path.display()))?;
        Ok(Whole { name: name.to_owned(), size, header, parts })
    }

    /// Its name, without any folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Layout {
        match self.parts.files() {
            [file] => file.layout(),
            _ => self.parts.layout(),
        }
    }

    /// The files that it consists of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.files().iter().map(GgufFile::path)
    }

    /// Replaces the content of `buffer` with the bytes of `range`.
    pub fn read(&self, range: &Range<u64>, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
        match (&self.header, self.parts.files()) {
            (None, [file]) => read_file(file.path(), range, buffer)
                .with_context(|| format!("cannot read {}", file.path().display())),
            (header, _) => self.join(header.as_deref().unwrap_or_default(), range, buffer),
        }
    }

    /// Size and hashes of all bytes.
    pub fn digests(&self) -> anyhow::Result<Digests> {
        if let (None, [file]) = (&self.header, self.parts.files()) {
            return hash_file(file.path())
                .with_context(|| format!("cannot read {}", file.path().display()));
        }
        let (mut hasher, mut buffer) = (Hasher::new(), Vec::new());
        for start in (0..self.size).step_by(CHUNK_BYTES as usize) {
            self.read(&(start..self.size.min(start + CHUNK_BYTES)), &mut buffer)?;
            hasher.update(&buffer);
        }
        Ok(hasher.finish())
    }

    /// Bytes of the joined file: header, tensors, and zeros between them.
    fn join(&self, header: &[u8], range: &Range<u64>, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
        buffer.clear();
        buffer.resize((range.end - range.start) as usize, 0);
        copy_overlap(header, 0, range, buffer);
        let layout = self.parts.layout();
        // In the order of their positions: those that end before the range come first.
        let first = layout.tensors.partition_point(|tensor| {
            layout.data_start + tensor.offset + tensor.size <= range.start
        });
        for tensor in &layout.tensors[first..] {
            let start = layout.data_start + tensor.offset;
            if start >= range.end {
                break;
            }
            copy_overlap(&self.parts.read(tensor)?, start, range, buffer);
            self.parts.release(tensor);
        }
        Ok(())
    }
}

/// Copies those bytes of `from`, which begins at `start`, that are in `range` to `buffer`, which
/// begins at the start of `range`.
fn copy_overlap(from: &[u8], start: u64, range: &Range<u64>, buffer: &mut [u8]) {
    let (first, last) = (start.max(range.start), (start + from.len() as u64).min(range.end));
    if first < last {
        let from = &from[(first - start) as usize..(last - start) as usize];
        buffer[(first - range.start) as usize..][..from.len()].copy_from_slice(from);
    }
}

fn file_size(path: &Path) -> anyhow::Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| path.display().to_string())?.len())
}

fn read_file(path: &Path, range: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut file = plain_file::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    // Every byte is overwritten below, so only the part that is longer than before is cleared.
    buffer.resize((range.end - range.start) as usize, 0);
    file.read_exact(buffer)
}
