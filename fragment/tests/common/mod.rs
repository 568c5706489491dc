//! Small GGUFs to cut up.
#![allow(dead_code, reason = "each test file uses its own part")]

#[cfg(feature = "network")]
pub mod server;

use std::path::{Path, PathBuf};

use gguf::{Metadata, TensorType, Value, Writer};

/// Name, shape and format of a tensor.
pub type Described = (String, Vec<u64>, TensorType);

/// Some keys, and a text of `filler` bytes that makes the header as large as a test wants it.
pub fn metadata(filler: usize) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("gpt2".into()));
    metadata.set("test.filler", Value::String("x".repeat(filler)));
    metadata
}

/// Tensors of these many F32 weights, called `blk.N.attn_qkv.weight` or, for odd N, `.bias`.
pub fn tensors(lengths: &[u64]) -> Vec<Described> {
    let name = |i: usize| {
        format!("blk.{i}.attn_qkv.{}", if i.is_multiple_of(2) { "weight" } else { "bias" })
    };
    lengths.iter().enumerate().map(|(i, &n)| (name(i), vec![n], TensorType::F32)).collect()
}

/// Bytes that differ from tensor to tensor.
pub fn content(index: usize, size: u64) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8 ^ index as u8).collect()
}

/// Writes a GGUF with these tensors and returns its bytes.
pub fn write(path: &Path, metadata: &Metadata, tensors: &[Described]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), metadata, tensors).unwrap();
    for (index, (name, shape, tensor_type)) in tensors.iter().enumerate() {
        let size = tensor_type.size_of(shape).unwrap();
        writer.write_tensor(name, &content(index, size)).unwrap();
    }
    let bytes = writer.finish().unwrap();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// A folder with `model.gguf` (five tensors, one of them larger than a piece) and `pieces/`.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub bytes: Vec<u8>,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let bytes = write(&path, &metadata(100), &tensors(&[500, 40, 2500, 300, 7]));
        let fixture = Fixture { folder, bytes };
        fragment::split(&fixture.job(4096)).unwrap();
        fixture
    }

    pub fn job(&self, max_bytes: u64) -> fragment::SplitJob {
        fragment::SplitJob { input: self.input(), output: self.pieces(), max_bytes, force: false }
    }

    pub fn input(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    pub fn pieces(&self) -> PathBuf {
        self.folder.path().join("pieces")
    }

    pub fn manifest_path(&self) -> PathBuf {
        self.pieces().join("manifest.json")
    }

    pub fn manifest(&self) -> fragment::Manifest {
        fragment::read_manifest(&self.manifest_path()).unwrap()
    }

    pub fn piece(&self, id: usize) -> PathBuf {
        self.pieces().join(&self.manifest().fragments[id].file)
    }
}
