//! Builds GGUF bytes by hand, so that every part of them can be wrong.

/// Appends the parts of a GGUF without checks.
#[derive(Clone)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// Magic, version 3 and the two counts.
    pub fn new(tensors: u64, keys: u64) -> Self {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    pub fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    pub fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).bytes(text)
    }

    /// Name and type of a key; its value has to follow.
    pub fn key(self, name: &str, value_type: u32) -> Self {
        self.text(name.as_bytes()).u32(value_type)
    }

    /// A key with a u32.
    pub fn key_u32(self, name: &str, value: u32) -> Self {
        self.key(name, 4).u32(value)
    }

    pub fn tensor(self, name: &str, shape: &[u64], tensor_type: u32, offset: u64) -> Self {
        let named = self.text(name.as_bytes()).u32(shape.len() as u32);
        shape.iter().fold(named, |raw, &dim| raw.u64(dim)).u32(tensor_type).u64(offset)
    }

    /// Padding up to a multiple of 32, then `size` bytes of tensor data.
    pub fn data(mut self, size: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + size, 0);
        self
    }
}
