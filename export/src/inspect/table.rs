//! An [`Inspection`] as a printed table.

use std::fmt;

use super::{FormatSummary, Inspection, Tensor};

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "file          {} ({})", file.path.display(), cli::bytes(file.size))?;
        }
        writeln!(f, "format        GGUF {}, {}-endian", self.version, self.byte_order)?;
        if let Some(architecture) = &self.architecture {
            writeln!(f, "architecture  {architecture:?}")?;
        }
        writeln!(f, "tensors       {}", cli::count(self.tensors.len() as u64))?;
        writeln!(f, "parameters    {}", cli::count(self.parameters))?;
        if let Some(bits) = self.bits_per_weight {
            writeln!(f, "bits/weight   {bits:.3}")?;
        }
        match &self.refusal {
            None => writeln!(f, "usable here   yes")?,
            Some(reason) => writeln!(f, "usable here   no: {reason}")?,
        }
        for problem in &self.problems {
            writeln!(f, "problem       {problem}")?;
        }
        self.write_formats(f)?;
        if self.list_tensors {
            self.write_tensors(f)?;
        }
        self.write_metadata(f)
    }
}

impl Inspection {
    fn write_formats(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.formats.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<10} {:>7} {:>15} {:>10} {:>6}  block",
            "format", "tensors", "parameters", "size", "share"
        )?;
        self.formats.iter().try_for_each(|format| self.write_format(f, format))
    }

    fn write_format(&self, f: &mut fmt::Formatter<'_>, format: &FormatSummary) -> fmt::Result {
        let FormatSummary { tensors, parameters, bytes, .. } = format;
        let (parameters, size) = (cli::count(*parameters), cli::bytes(*bytes));
        let share = 100.0 * *bytes as f64 / self.tensor_bytes.max(1) as f64;
        let name = format.format.to_string();
        write!(f, "{name:<10} {tensors:>7} {parameters:>15} {size:>10} {share:>5.1}%  ")?;
        match (format.block_weights, format.block_bytes) {
            (Some(weights), Some(bytes)) => write!(f, "{weights} in {bytes} bytes")?,
            _ => write!(f, "unknown")?,
        }
        writeln!(f, "{}", if format.computed { "" } else { ", not computed here" })
    }

    fn write_tensors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<10} {:>12} {:>14}  name and shape", "tensor", "bytes", "at byte")?;
        for Tensor { name, shape, format, size, at, file } in &self.tensors {
            let format = format.to_string();
            let size = size.map_or_else(|| "?".to_owned(), |size| size.to_string());
            write!(f, "{format:<10} {size:>12} {at:>14}  {name} {shape:?}")?;
            match self.files.len() {
                1 => writeln!(f)?,
                files => writeln!(f, ", file {} of {files}", file + 1)?,
            }
        }
        Ok(())
    }

    fn write_metadata(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.metadata.iter().map(|key| key.key.chars().count()).max().unwrap_or(0);
        // Without a newline at the end: the caller that prints a report adds it.
        for key in &self.metadata {
            write!(f, "\n{:<6} {:<width$} {}", key.r#type, key.key, key.value.0)?;
        }
        Ok(())
    }
}
