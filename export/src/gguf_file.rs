//! A checkpoint as a GGUF file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use checkpoint::hash::{Digests, Hasher};
use checkpoint::{Checkpoint, GgufView, atomic};
use cli::{Meter, Progress};
use gguf::{TensorSource, TensorType, Writer};

use crate::{Report, open};

/// What [`export_gguf`] is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportJob {
    /// Checkpoint, Hugging Face or run folder.
    pub input: PathBuf,
    /// The file to write; [`default_output`] if not given.
    pub output: Option<PathBuf>,
    /// Type of the matrices: F32, F16 or BF16.
    pub tensor_type: TensorType,
    /// `general.name`; the name of the run or checkpoint if not given.
    pub name: Option<String>,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

/// Writes a checkpoint as one GGUF file, a tensor at a time.
///
/// # Errors
/// When the input is no checkpoint of a known architecture, its tokenizer does not go with it, a
/// weight is not finite or too large for the type, or the file cannot be written or is one of the
/// checkpoint's own.
pub fn export_gguf(job: &ExportJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let checkpoint = open(&job.input)?;
    let name = job.name.clone().unwrap_or_else(|| checkpoint.default_name());
    let output =
        job.output.clone().unwrap_or_else(|| default_output(&checkpoint, &name, job.tensor_type));
    ensure!(
        !checkpoint.consists_of(&output),
        "{} is part of the checkpoint itself; name another --output",
        output.display()
    );
    let view = GgufView::new(checkpoint, job.tensor_type, &name)
        .with_context(|| format!("cannot export {}", job.input.display()))?;
    let digests = write(&view, &output, job.overwrite).with_context(|| cannot_write(&output))?;
    Ok(Report {
        output,
        format: format!("GGUF {}", job.tensor_type),
        tensors: view.tensors().len(),
        size: digests.size,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_bytes: cli::memory::peak_resident(),
        sha256: digests.sha256,
        blake3: digests.blake3,
    })
}

/// `RUN/gguf/NAME-TYPE.gguf` for a checkpoint of a run, otherwise beside its folder.
pub fn default_output(checkpoint: &Checkpoint, name: &str, tensor_type: TensorType) -> PathBuf {
    let folder = match checkpoint.run_dir() {
        Some(run) => run.join("gguf"),
        None => checkpoint.dir().parent().map(Path::to_owned).unwrap_or_default(),
    };
    // A name may be anything that a person types; a file name may not.
    let safe = name.replace(|c: char| c == '/' || c == '\\' || c.is_control(), "-");
    folder.join(format!("{safe}-{tensor_type}.gguf"))
}

fn cannot_write(output: &Path) -> String {
    format!("cannot write {}", output.display())
}

fn write(view: &GgufView, output: &Path, overwrite: bool) -> anyhow::Result<Digests> {
    let plan: Vec<_> =
        view.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let progress = Progress::new("export", view.layout().file_size, Meter::Bytes);
    let digests = atomic::write_file(output, overwrite, |out| {
        let hashing = Hashing { out, hasher: Hasher::new() };
        let mut writer = Writer::new(hashing, view.metadata(), &plan)?;
        progress.advance(view.layout().data_start);
        for tensor in view.tensors() {
            progress.message(&tensor.name);
            writer.write_tensor(&tensor.name, &view.read(tensor)?)?;
            progress.advance(tensor.size);
        }
        Ok::<_, anyhow::Error>(writer.finish()?.hasher.finish())
    });
    progress.finish();
    digests
}

/// Passes bytes on and hashes them on the way, so that the file need not be read again.
struct Hashing<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
