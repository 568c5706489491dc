//! `quantize imatrix`: sums the squares of every matrix's inputs over a text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use checkpoint::atomic::same_place;
use cli::memory::{AnonymousPeak, peak_resident};
use cli::{Interrupt, Interrupted, Meter, Progress};
use gguf::{TensorSource, Value};
use reference::Blockwise;
use serde::Serialize;

use super::file::{ImatrixFile, Sums};
use crate::calibration::Calibration;
use crate::input::Input;

/// Windows that go through the blocks together, so that each block is dequantized once for all of
/// them; and the bytes of their residual streams, which limit the number if windows are large.
const WINDOWS: usize = 16;
const STREAM_BYTES: usize = 64 << 20;

/// Bytes at the start of each tensor that identify the model.
const SAMPLE_BYTES: usize = 4096;

/// The key that identifies the job of an unfinished file.
const RESUME_KEY: &str = "pocketgpt.imatrix.of";

/// The settings of [`collect`].
#[derive(Debug, Clone)]
pub struct ImatrixJob {
    /// A GGUF (of one part or several), a checkpoint folder, or a run folder.
    pub input: PathBuf,
    /// The calibration text, UTF-8.
    pub text: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// Tokens in a window, at most the model's context.
    pub context: usize,
    /// Most tokens to read.
    pub tokens: Option<usize>,
    /// Whether the head's input is also summed.
    pub process_output: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Asks to stop; the sums so far are saved first.
    pub interrupt: Interrupt,
}

/// The result of [`collect`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImatrixReport {
    /// What was read.
    pub input: PathBuf,
    /// The calibration text.
    pub text: PathBuf,
    /// The file written.
    pub output: PathBuf,
    /// Matrices with data.
    pub matrices: usize,
    /// Windows read.
    pub chunks: usize,
    /// Tokens in a window.
    pub context: usize,
    /// Windows that an earlier run had read.
    pub resumed: usize,
    /// Wall time.
    pub seconds: f64,
    /// Peak resident memory of the process, including mapped pages.
    pub peak_resident_bytes: Option<u64>,
    /// Peak memory without mapped files.
    pub peak_anonymous_bytes: Option<u64>,
}

/// Reads the text with the reference forward pass, one block of the model in memory at a time, and
/// writes the sums in llama.cpp's file format.
///
/// A run that is stopped leaves `OUTPUT.partial`. The same job resumes from it and writes the same
/// bytes as without the stop.
///
/// # Errors
/// When the model or the text cannot be read, the reference does not know the model, or the output
/// exists and may not be replaced; [`Interrupted`] when it was asked to stop.
pub fn collect(job: &ImatrixJob) -> anyhow::Result<ImatrixReport> {
    collect_unless(job, &|_| job.interrupt.requested())
}

/// Collects until `stop` returns true for the number of windows read so far.
fn collect_unless(job: &ImatrixJob, stop: &dyn Fn(usize) -> bool) -> anyhow::Result<ImatrixReport> {
    let start = Instant::now();
    if job.output.symlink_metadata().is_ok() && !job.overwrite {
        bail!("{} exists already; use --force to replace it", job.output.display());
    }
    let input = Input::open(&job.input)?;
    if input.consists_of(&job.output) || same_place(&job.output, &job.text) {
        bail!("{} is read for it; name another --output", job.output.display());
    }
    let source = input.source();
    let model =
        Blockwise::new(source).with_context(|| format!("cannot run {}", job.input.display()))?;
    let text =
        Calibration::read(&job.text, source.metadata(), input.folder(), job.context, job.tokens)?;

    let partial = Partial::new(job, source, &text)?;
    let mut sums = partial.open().unwrap_or_else(|| ImatrixFile {
        datasets: vec![job.text.to_string_lossy().into_owned()],
        chunk_size: text.context as u64,
        ..ImatrixFile::default()
    });
    let resumed = sums.chunks as usize;
    let peak = AnonymousPeak::default();
    let progress = Progress::new("imatrix", text.windows.len() as u64, Meter::Items);
    progress.set(resumed as u64);
    let window_bytes = 4 * text.context * model.config().n_embd;
    let together = (STREAM_BYTES / window_bytes).clamp(1, WINDOWS);
    for windows in text.windows[resumed..].chunks(together) {
        let stop = || stop(sums.chunks as usize);
        let entries = sums.entries.clone();
        match observe(&model, windows, job.process_output, entries, &stop, &peak)? {
            Some(entries) => {
                sums.entries = entries;
                sums.chunks += windows.len() as u64;
            }
            None => {
                progress.finish();
                partial.write(&sums)?;
                return Err(Interrupted.into());
            }
        }
        progress.advance(windows.len() as u64);
    }
    progress.finish();
    sums.write(&job.output, job.overwrite, &[])?;
    partial.remove();
    Ok(ImatrixReport {
        input: job.input.clone(),
        text: job.text.clone(),
        output: job.output.clone(),
        matrices: sums.entries.len(),
        chunks: text.windows.len(),
        context: text.context,
        resumed,
        seconds: start.elapsed().as_secs_f64(),
        peak_resident_bytes: peak_resident(),
        peak_anonymous_bytes: peak.bytes(),
    })
}

/// Sums by tensor.
type Entries = BTreeMap<String, Sums>;

/// Adds some windows to the sums, block after block; `None` if the user asked to stop meanwhile.
///
/// Each window is added separately, in the order of the text: the bits equal those of the search,
/// and do not depend on how many windows are read together.
fn observe(
    model: &Blockwise<'_>,
    windows: &[Vec<u32>],
    process_output: bool,
    mut sums: Entries,
    stop: &dyn Fn() -> bool,
    peak: &AnonymousPeak,
) -> anyhow::Result<Option<Entries>> {
    let embedding = model.embedding()?;
    let mut streams =
        windows.iter().map(|window| embedding.embed(window)).collect::<Result<Vec<_>, _>>()?;
    for layer in 0..model.config().n_layer {
        let block = model.block(layer)?;
        for x in &mut streams {
            if stop() {
                return Ok(None);
            }
            block.observe_with_experts(x, &mut |input| {
                let (width, index) = (input.width, input.expert.unwrap_or(0));
                let squares = squares(input.rows, width);
                for tensor in input.tensors {
                    let new = || Sums::new(input.matrices, width);
                    let sums = sums.entry((*tensor).to_owned()).or_insert_with(new);
                    sums.add_to(index, &squares, input.rows.len() / width);
                }
            })?;
        }
        peak.sample();
    }
    if process_output {
        let norm = model.last_norm()?;
        let width = model.config().n_embd;
        let head =
            sums.entry(model.head_tensor().to_owned()).or_insert_with(|| Sums::new(1, width));
        for x in &streams {
            head.add(&squares(&norm.forward(x), width), x.len() / width);
        }
    }
    Ok(Some(sums))
}

/// `Σ_t x[t, j]²` for each column of `[T, width]`.
pub(crate) fn squares(x: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in x.chunks_exact(width) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums
}

/// The file of a stopped run: the sums so far, and the job that they belong to.
struct Partial {
    path: PathBuf,
    of: String,
}

impl Partial {
    fn new(
        job: &ImatrixJob,
        source: &dyn TensorSource,
        text: &Calibration,
    ) -> anyhow::Result<Self> {
        let mut name = job.output.as_os_str().to_owned();
        name.push(".partial");
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(&[u8::from(job.process_output)]);
        add(&(text.context as u64).to_le_bytes());
        for token in text.windows.iter().flatten() {
            add(&token.to_le_bytes());
        }
        for tensor in source.tensors() {
            add(tensor.name.as_bytes());
            add(tensor.tensor_type.name().as_bytes());
            let bytes = source.read_matrix(tensor, 0)?;
            add(&bytes[..bytes.len().min(SAMPLE_BYTES)]);
            source.release(tensor);
        }
        let of = hasher.finalize().to_hex().to_string();
        Ok(Partial { path: Path::new(&name).to_owned(), of })
    }

    /// Reads the file of an earlier run of the same job.
    fn open(&self) -> Option<ImatrixFile> {
        let header = gguf::GgufFile::open(&self.path).ok()?;
        let of = header.metadata().string(RESUME_KEY).ok()?;
        if of != self.of { None } else { ImatrixFile::open(&self.path).ok() }
    }

    fn write(&self, sums: &ImatrixFile) -> anyhow::Result<()> {
        if sums.chunks == 0 {
            return Ok(());
        }
        let is_ours = gguf::GgufFile::open(&self.path)
            .is_ok_and(|header| header.metadata().string(RESUME_KEY).is_ok());
        sums.write(&self.path, is_ours, &[(RESUME_KEY, Value::String(self.of.clone()))])
    }

    fn remove(&self) {
        // Removed only if it was written by a run like this one; any other file of this name stays.
        if self.open().is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for ImatrixReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.chunks * self.context;
        writeln!(f, "output   {}", self.output.display())?;
        writeln!(f, "matrices {}", self.matrices)?;
        writeln!(f, "text     {tokens} tokens in {} chunks of {}", self.chunks, self.context)?;
        if self.resumed > 0 {
            writeln!(f, "resumed  after {} chunks", self.resumed)?;
        }
        if let (Some(anonymous), Some(resident)) =
            (self.peak_anonymous_bytes, self.peak_resident_bytes)
        {
            let (anonymous, resident) = (cli::bytes(anonymous), cli::bytes(resident));
            writeln!(f, "memory   {anonymous} at most; {resident} with mapped pages of the input")?;
        }
        write!(f, "time     {}", cli::seconds(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::test_models::{GPT2, Model};

    const SMALL: Model = Model { layers: 1, width: 64, inner: 96, ..GPT2 };

    fn job(dir: &Path, output: &str) -> ImatrixJob {
        ImatrixJob {
            input: dir.join("model.gguf"),
            text: dir.join("text.txt"),
            output: dir.join(output),
            context: 8,
            tokens: None,
            process_output: false,
            overwrite: false,
            interrupt: Interrupt::default(),
        }
    }

    #[test]
    fn a_stopped_run_goes_on_to_the_same_bytes() {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        SMALL.write(&path("model.gguf"), 3);
        std::fs::write(path("text.txt"), "the words of a text ".repeat(30)).unwrap();
        let whole = collect(&job(dir.path(), "whole.gguf")).unwrap();
        assert!(whole.chunks > 3 * WINDOWS, "{whole:?}");
        let whole = std::fs::read(path("whole.gguf")).unwrap();

        let stopped = job(dir.path(), "stopped.gguf");
        for (until, kept) in [(0, 0), (1, WINDOWS), (WINDOWS + 1, 2 * WINDOWS)] {
            let error = collect_unless(&stopped, &|windows| windows >= until).unwrap_err();
            assert!(error.is::<Interrupted>(), "{error:#}");
            assert!(!stopped.output.exists());
            assert_eq!(path("stopped.gguf.partial").exists(), kept > 0);
        }
        // Another job starts from the beginning.
        let other = ImatrixJob { tokens: Some(200), ..stopped.clone() };
        assert_eq!(collect(&other).unwrap().resumed, 0);
        std::fs::remove_file(&stopped.output).unwrap();

        assert_eq!(collect(&stopped).unwrap().resumed, 2 * WINDOWS);
        assert!(std::fs::read(path("stopped.gguf")).unwrap() == whole);
        assert!(!path("stopped.gguf.partial").exists());
    }

    #[test]
    fn squares_are_summed_by_column() {
        let mut sums = Sums::new(2, 2);
        sums.add_to(1, &squares(&[1.0, 2.0, 3.0, -4.0], 2), 2);
        assert_eq!((sums.squares, sums.counts), (vec![0.0, 0.0, 10.0, 20.0], vec![0.0, 2.0]));
    }
}
