//! Writes the output: weights are read, converted and written at the same time, in slabs of rows.
//! ```text
//! source --rows--> [all cores: encode] --buffers, at most QUEUE--> [one thread: write, sync]
//! ```
//!
//! Buffers are reused, so their memory is allocated once; the disk starts writing before the last
//! tensor is done.

use std::io::BufWriter;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use anyhow::{Context, anyhow};
use checkpoint::atomic::{self, NamedFile};
use cli::memory::AnonymousPeak;
use cli::{Interrupt, Interrupted, Meter, Progress};
use gguf::{TensorInfo, TensorType, Writer, blocks};

use crate::encode::{Encode, Slab};
use crate::job::QuantizeJob;
use crate::plan::FilePlan;
use crate::report::TensorReport;

/// Number of weights that are converted at a time: enough for many cores, and 8 MiB of floats.
const SLAB: usize = 1 << 21;

/// Buffers that may wait to be written.
const QUEUE: usize = 4;

/// Bytes after which the written data is synced to the disk, so that little remains to be synced at
/// the end.
const SYNC_BYTES: usize = 32 << 20;

/// Some bytes of a tensor, queued for writing.
struct Part<'a> {
    tensor: &'a TensorInfo,
    bytes: Vec<u8>,
}

/// Writes the planned file to `output`. With `errors`, also measures the error of each tensor.
///
/// # Errors
/// When a tensor cannot be read or converted (with its name), or the file cannot be written;
/// [`cli::Interrupted`] when it was asked to stop.
pub(crate) fn write(
    plan: &FilePlan<'_>,
    encoder: &dyn Encode,
    output: &Path,
    job: &QuantizeJob,
    peak: &AnonymousPeak,
) -> anyhow::Result<Vec<TensorReport>> {
    let (errors, interrupt) = (job.errors, &job.interrupt);
    atomic::write_file(output, job.overwrite, |out| {
        let writer = Writer::new(out, plan.metadata(), &plan.described())?;
        thread::scope(|scope| {
            let (parts, to_write) = sync_channel(QUEUE);
            let (written, free) = channel();
            let writing = scope.spawn(move || write_parts(writer, &to_write, &written));
            let made = Making { plan, encoder, errors, interrupt, peak, parts, free }.run();
            let written = writing.join().map_err(|_| anyhow!("the writing thread panicked"))?;
            // If writing failed, the converting side only saw its channel closed.
            written.and(made)
        })
    })
}

/// The thread that writes the file.
fn write_parts(
    mut writer: Writer<&mut BufWriter<NamedFile>>,
    parts: &Receiver<Part<'_>>,
    written: &Sender<Vec<u8>>,
) -> anyhow::Result<()> {
    let mut not_synced = 0;
    for Part { tensor, bytes } in parts {
        writer.write_part(&tensor.name, &bytes)?;
        not_synced += bytes.len();
        // The other side may have ended and no longer need the buffer.
        let _ = written.send(bytes);
        if not_synced >= SYNC_BYTES {
            writer.get_ref().get_ref().sync_data()?;
            not_synced = 0;
        }
    }
    // If parts are missing, the other side has failed and reports its own error.
    match writer.is_complete() {
        true => writer.finish().map(drop).map_err(Into::into),
        false => Ok(()),
    }
}

/// The converting side.
struct Making<'a> {
    plan: &'a FilePlan<'a>,
    encoder: &'a dyn Encode,
    errors: bool,
    interrupt: &'a Interrupt,
    peak: &'a AnonymousPeak,
    parts: SyncSender<Part<'a>>,
    free: Receiver<Vec<u8>>,
}

impl<'a> Making<'a> {
    fn run(self) -> anyhow::Result<Vec<TensorReport>> {
        let total = self.plan.source().tensors().iter().map(|tensor| tensor.size).sum();
        let progress = Progress::new("quantize", total, Meter::Bytes);
        let made = self.convert_all(&progress);
        progress.finish();
        made
    }

    fn convert_all(&self, progress: &Progress) -> anyhow::Result<Vec<TensorReport>> {
        let mut reports = Vec::new();
        for (tensor, to) in self.plan.tensors() {
            if self.interrupt.requested() {
                return Err(Interrupted.into());
            }
            progress.message(&tensor.name);
            let converted = self.convert(tensor, to);
            let error = converted.with_context(|| format!("tensor {}", tensor.name))?;
            self.peak.sample();
            self.plan.source().release(tensor);
            progress.advance(tensor.size);
            reports.push(TensorReport::new(tensor, to, error));
        }
        Ok(reports)
    }

    /// Converts the tensor and queues it for writing; returns its relative RMS error if that is
    /// asked for.
    fn convert(&self, tensor: &'a TensorInfo, to: TensorType) -> anyhow::Result<Option<f64>> {
        let mut lost = Lost::default();
        // One expert at a time: all together may not fit in memory.
        for index in 0..tensor.matrices() {
            let bytes = self.plan.source().read_matrix(tensor, index)?;
            match tensor.tensor_type == to {
                true => self.copy(tensor, to, &bytes)?,
                false => self.encode(tensor, to, index, &bytes, &mut lost)?,
            }
        }
        Ok(self.errors.then(|| lost.relative_rms()))
    }

    fn copy(&self, tensor: &'a TensorInfo, to: TensorType, bytes: &[u8]) -> anyhow::Result<()> {
        blocks::check_scales(to, bytes)?;
        for bytes in bytes.chunks(4 * SLAB) {
            let mut copy = self.buffer(bytes.len());
            copy.copy_from_slice(bytes);
            self.send(tensor, copy)?;
        }
        Ok(())
    }

    /// Encodes and queues the `bytes` of matrix `index` of a tensor.
    fn encode(
        &self,
        tensor: &'a TensorInfo,
        to: TensorType,
        index: usize,
        bytes: &[u8],
        lost: &mut Lost,
    ) -> anyhow::Result<()> {
        let (from, row_len) = (tensor.tensor_type, tensor.row_len());
        let row_bytes = |of: TensorType| row_len / of.block_len() * of.block_bytes();
        let slab_rows = (SLAB / row_len).max(1);
        let mut floats = Vec::new();
        let mut first_row = index * (bytes.len() / row_bytes(from));
        for bytes in bytes.chunks(slab_rows * row_bytes(from)) {
            let rows = weights(from, bytes, &mut floats)?;
            let mut out = self.buffer(rows.len() / row_len * row_bytes(to));
            let slab = Slab { tensor, to, first_row, rows };
            self.encoder.encode(&slab, &mut out)?;
            if self.errors {
                lost.add(to, rows, &out)?;
            }
            first_row += rows.len() / row_len;
            self.send(tensor, out)?;
        }
        Ok(())
    }

    /// A buffer that has been written, or else a new one.
    fn buffer(&self, size: usize) -> Vec<u8> {
        let mut buffer = self.free.try_recv().unwrap_or_default();
        buffer.resize(size, 0);
        buffer
    }

    fn send(&self, tensor: &'a TensorInfo, bytes: Vec<u8>) -> anyhow::Result<()> {
        let sent = self.parts.send(Part { tensor, bytes });
        sent.map_err(|_| anyhow!("the writing thread is gone"))
    }
}

/// Stored weights as floats: borrowed if they are stored as floats, otherwise in `floats`.
fn weights<'a>(
    from: TensorType,
    bytes: &'a [u8],
    floats: &'a mut Vec<f32>,
) -> anyhow::Result<&'a [f32]> {
    if from == TensorType::F32
        && cfg!(target_endian = "little")
        && let Ok(weights) = bytemuck::try_cast_slice(bytes)
    {
        return Ok(weights);
    }
    floats.resize(bytes.len() / from.block_bytes() * from.block_len(), 0.0);
    blocks::dequantize(from, bytes, floats)?;
    Ok(floats)
}

/// The error of a tensor.
#[derive(Default)]
struct Lost {
    /// Σ (w' - w)²
    error: f64,
    /// Σ w²
    norm: f64,
    read: Vec<f32>,
}

impl Lost {
    fn add(&mut self, to: TensorType, weights: &[f32], bytes: &[u8]) -> anyhow::Result<()> {
        self.read.resize(weights.len(), 0.0);
        blocks::dequantize(to, bytes, &mut self.read)?;
        for (w, r) in weights.iter().zip(&self.read) {
            self.error += f64::from(r - w).powi(2);
            self.norm += f64::from(*w).powi(2);
        }
        Ok(())
    }

    /// Square root of Σ (w' - w)² / Σ w²; 0 for a tensor of zeros.
    fn relative_rms(&self) -> f64 {
        if self.norm == 0.0 { 0.0 } else { (self.error / self.norm).sqrt() }
    }
}
