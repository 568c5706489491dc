//! A model in memory, for tests and for code that already has the weights in memory.

use std::borrow::Cow;

use gguf::{GgufError, Metadata, TensorInfo, TensorSource, TensorType};

/// F32 tensors in memory, as a `TensorSource`.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    data: Vec<Vec<f32>>,
}

impl MemorySource {
    /// A source with this metadata and without tensors.
    pub fn new(metadata: Metadata) -> Self {
        MemorySource { metadata, ..MemorySource::default() }
    }

    /// Adds a tensor; `shape` has its slowest dimension first (`[out, in]`), and `data` is
    /// row-major.
    ///
    /// # Panics
    /// When `shape` and the length of `data` differ.
    pub fn add(&mut self, name: &str, shape: &[usize], data: Vec<f32>) {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "tensor {name}");
        self.tensors.push(TensorInfo {
            name: name.to_owned(),
            shape: shape.iter().rev().map(|&n| n as u64).collect(),
            tensor_type: TensorType::F32,
            offset: self.tensors.last().map_or(0, |last| last.offset + last.size),
            size: 4 * data.len() as u64,
        });
        self.data.push(data);
    }
}

impl TensorSource for MemorySource {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        let at = self.tensors.iter().position(|known| known.name == tensor.name);
        let at = at.ok_or_else(|| GgufError::MissingTensor { name: tensor.name.clone() })?;
        // GGUF is little-endian.
        if cfg!(target_endian = "little") {
            Ok(Cow::Borrowed(bytemuck::cast_slice(&self.data[at])))
        } else {
            Ok(Cow::Owned(self.data[at].iter().flat_map(|x| x.to_le_bytes()).collect()))
        }
    }
}
