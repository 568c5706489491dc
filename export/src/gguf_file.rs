//! A model as a GGUF file.
//!
//! While one tensor is hashed and written, the next one is read and converted, and earlier ones are
//! synced to the disk.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use checkpoint::hash::{Digests, Hasher};
use checkpoint::{GgufForm, GgufView, atomic};
use cli::{Meter, Progress};
use gguf::{TensorInfo, TensorSource, TensorType, Writer};

use crate::input::Model;
use crate::{Input, Report};

/// Bytes that two tensors together may take in addition to the size of the largest tensor: as much
/// as two of most models' matrices, and far less than a second large embedding would add.
const AHEAD: usize = 128 << 20;

/// Bytes that are written before a sync to the disk is requested.
const FLUSH: u64 = 64 << 20;

/// The settings of [`export_gguf`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportJob {
    /// The model.
    pub input: Input,
    /// The file to write; `RUN/gguf/NAME-TYPE.gguf` if not given, or beside the input if it is not
    /// in a run folder.
    pub output: Option<PathBuf>,
    /// Type of the matrices: F32, F16 or BF16.
    pub tensor_type: TensorType,
    /// `general.name`; the name of the run or of the input if not given.
    pub name: Option<String>,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

/// Writes a model as one GGUF file, a tensor at a time.
///
/// # Errors
/// When the input is not a model of a known architecture, its tokenizer does not match it, a weight
/// is not finite or too large for the type, or the file cannot be written or is one of the input's
/// own.
pub fn export_gguf(job: &ExportJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let model = Model::open(&job.input)?;
    let name = job.name.clone().unwrap_or_else(|| model.default_name());
    let output = job
        .output
        .clone()
        .unwrap_or_else(|| model.default_folder().join(file_name(&name, job.tensor_type)));
    model.check_output_file(&output)?;
    let cannot_export = || format!("cannot export {}", job.input.path.display());
    let with_tokenizer = job.input.has_own_tokenizer();
    let (checkpoint, _scratch) = model
        .into_checkpoint(&output, job.overwrite, with_tokenizer)
        .with_context(cannot_export)?;
    let view = job.input.view(checkpoint, job.tensor_type, &name).with_context(cannot_export)?;
    let digests = write(&view, &output, job.overwrite).with_context(cannot_export)?;
    Ok(Report {
        output,
        format: format!("GGUF {}", job.tensor_type),
        tokenizer: tokenizer_note(&view),
        tensors: view.tensors().len(),
        size: digests.size,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_bytes: cli::memory::peak_resident(),
        sha256: digests.sha256,
        blake3: digests.blake3,
    })
}

/// The limitation of the tokenizer in the file, if it is not as complete as the model's own.
fn tokenizer_note(view: &GgufView) -> Option<String> {
    match view.gguf_form() {
        None => Some("none: runs on token ids only, a text needs --tokenizer FILE".to_owned()),
        Some(GgufForm::Exact) => None,
        Some(form) => Some(form.to_string()),
    }
}

/// A name may hold any characters; a file name may not.
pub(crate) fn file_name(name: &str, tensor_type: TensorType) -> String {
    let safe = name.replace(|c: char| c == '/' || c == '\\' || c.is_control(), "-");
    format!("{safe}-{tensor_type}.gguf")
}

fn write(view: &GgufView, output: &Path, overwrite: bool) -> anyhow::Result<Digests> {
    let plan: Vec<_> =
        view.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let progress = Progress::new("export", view.layout().file_size, Meter::Bytes);
    let digests = atomic::write_file(output, overwrite, |out| {
        let file = out.get_ref().try_clone()?;
        flush_behind(&file, |flush| {
            let hashing = Hashing { out, hasher: Hasher::new() };
            let mut writer = Writer::new(hashing, view.metadata(), &plan)?;
            progress.advance(view.layout().data_start);
            let mut unflushed = 0;
            each_matrix(view, |tensor, bytes| {
                progress.message(&tensor.name);
                writer.write_part(&tensor.name, bytes)?;
                progress.advance(bytes.len() as u64);
                unflushed += bytes.len() as u64;
                if unflushed >= FLUSH {
                    flush();
                    unflushed = 0;
                }
                Ok(())
            })?;
            Ok(writer.finish()?.hasher.finish())
        })
    });
    progress.finish();
    digests
}

/// Runs `work`, which writes to `file` and may request at any time that the data so far is synced
/// to the disk in parallel; otherwise all data would have to be synced at the end.
fn flush_behind<T>(
    file: &File,
    work: impl FnOnce(&(dyn Fn() + Sync)) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let (sender, requests) = std::sync::mpsc::sync_channel(1);
        let flusher = scope.spawn(move || requests.iter().try_for_each(|()| file.sync_data()));
        let value = work(&|| {
            // If a request is waiting already, another one is not needed.
            let _ = sender.try_send(());
        });
        drop(sender);
        let flushed = flusher.join().unwrap_or_else(|_| Err(io::Error::other("flushing failed")));
        let value = value?;
        flushed.context("cannot flush")?;
        Ok(value)
    })
}

/// Passes every tensor of `view` to `write`, in order, the experts of a layer one by one. The next
/// one is converted meanwhile, unless both together would take too much memory.
fn each_matrix(
    view: &GgufView,
    mut write: impl FnMut(&TensorInfo, &[u8]) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let largest = view.tensors().iter().map(TensorInfo::matrix_bytes).max().unwrap_or(0);
    let read =
        |(tensor, index)| Ok::<Cow<'_, [u8]>, anyhow::Error>(view.read_matrix(tensor, index)?);
    let each = view.tensors().iter();
    let mut matrices = each.flat_map(|t| (0..t.matrices()).map(move |index| (t, index))).peekable();
    let mut made = None;
    while let Some((tensor, index)) = matrices.next() {
        let bytes = made.take().map_or_else(|| read((tensor, index)), Ok)?;
        let fits = |next: &&(&TensorInfo, usize)| {
            tensor.matrix_bytes() + next.0.matrix_bytes() <= largest + AHEAD
        };
        match matrices.peek().filter(fits) {
            Some(&next) => {
                let (written, following) = rayon::join(|| write(tensor, &bytes), || read(next));
                written?;
                made = Some(following?);
            }
            None => write(tensor, &bytes)?,
        }
    }
    Ok(())
}

/// Forwards bytes and hashes them, so that the file does not have to be read again.
struct Hashing<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write + Send> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Hashing { out, hasher } = self;
        hasher.update_beside(bytes, || out.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
