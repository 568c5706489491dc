//! Writes a GGUF sequentially, with one tensor in memory at a time.

use std::io::{self, Write};

use crate::layout::Described;
use crate::{GgufError, Layout, Metadata, TensorInfo};

/// Writes one GGUF: the header first, then every tensor in the planned order.
///
/// ```
/// use gguf::{Metadata, TensorType, Value, Writer};
/// # fn main() -> Result<(), gguf::GgufError> {
/// let mut metadata = Metadata::new();
/// metadata.set("general.architecture", Value::String("gpt2".to_owned()));
/// let tensors = [("output_norm.weight".to_owned(), vec![2], TensorType::F32)];
///
/// let mut writer = Writer::new(Vec::new(), &metadata, &tensors)?;
/// writer.write_tensor("output_norm.weight", &[0; 8])?;
/// let file = writer.finish()?;
///
/// let (read_back, layout) = gguf::parse_header(&file)?;
/// assert_eq!(read_back, metadata);
/// assert_eq!(layout.file_size, file.len() as u64);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    layout: Layout,
    /// Tensors written so far.
    written: usize,
    /// Bytes written of the next tensor.
    part: u64,
}

impl<W: Write> Writer<W> {
    /// Plans the file and writes its header. Tensors are given in file order by name, shape
    /// (fastest dimension first) and type.
    ///
    /// # Errors
    /// When llama.cpp would refuse the file, or `out` fails.
    pub fn new(mut out: W, metadata: &Metadata, tensors: &[Described]) -> Result<Self, GgufError> {
        let layout = Layout::plan(metadata, tensors)?;
        let header = layout.header(metadata)?;
        out.write_all(&header).map_err(failed)?;
        Ok(Self { out, layout, written: 0, part: 0 })
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The output, for example to sync it.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Whether all tensors are written.
    pub fn is_complete(&self) -> bool {
        self.written == self.layout.tensors.len()
    }

    /// Writes the next tensor, and its padding.
    ///
    /// # Errors
    /// When `name` is not the next tensor, `data` does not have the planned size, or the output
    /// fails.
    pub fn write_tensor(&mut self, name: &str, data: &[u8]) -> Result<(), GgufError> {
        let (expected, found) = (self.due(name)?.size, self.part + data.len() as u64);
        if found != expected {
            return Err(GgufError::WrongSize { name: name.to_owned(), expected, found });
        }
        self.write_part(name, data)
    }

    /// Writes some bytes of the next tensor. After its last bytes the padding is written too, and
    /// the tensor is complete.
    ///
    /// # Errors
    /// When `name` is not the next tensor, the tensor has fewer bytes left, or the output fails.
    pub fn write_part(&mut self, name: &str, data: &[u8]) -> Result<(), GgufError> {
        let (expected, found) = (self.due(name)?.size, self.part + data.len() as u64);
        if found > expected {
            return Err(GgufError::WrongSize { name: name.to_owned(), expected, found });
        }
        self.out.write_all(data).map_err(failed)?;
        self.part = found;
        if found == expected {
            let padding = expected.next_multiple_of(self.layout.alignment) - expected;
            self.out.write_all(&vec![0; padding as usize]).map_err(failed)?;
            self.part = 0;
            self.written += 1;
        }
        Ok(())
    }

    /// The next tensor, if it is the one called `name`.
    fn due(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        let due = self.layout.tensors.get(self.written);
        due.filter(|due| due.name == name).ok_or_else(|| {
            let expected = due.map_or("no further tensor", |due| &due.name).to_owned();
            GgufError::OutOfTurn { name: name.to_owned(), expected }
        })
    }

    /// Flushes the output and returns it. (If a writer is dropped instead, the file is incomplete.)
    ///
    /// # Errors
    /// When a tensor is missing, or the output fails.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let [next, rest @ ..] = &self.layout.tensors[self.written..] {
            return Err(GgufError::Unfinished { next: next.name.clone(), more: rest.len() });
        }
        self.out.flush().map_err(failed)?;
        Ok(self.out)
    }
}

fn failed(source: io::Error) -> GgufError {
    GgufError::Write { source }
}
