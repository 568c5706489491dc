//! Reading safetensors files, one tensor or a part of one at a time.
//!
//! The files are read by position and not mapped: a mapping counts towards the memory of the
//! process once its pages were touched, and export promises to hold one tensor only.

mod index;
mod shard;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::TensorInfo;

use crate::{CheckpointError, WEIGHTS_FILE};

use index::{INDEX_FILE, Index};
use shard::Shard;

pub use safetensors::Dtype;

/// What PyTorch's own files are called.
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The tensors of a model: of one safetensors file, or of the shards that an index names.
#[derive(Debug)]
pub struct Weights {
    /// The file, or the index.
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    shard: usize,
    info: TensorInfo,
}

impl Weights {
    /// Reads the header of one file; no weights yet.
    ///
    /// # Errors
    /// When the file cannot be read, is cut short, has gaps, or is no safetensors file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (shard, tensors) = Shard::open(path)?;
        let tensors =
            tensors.into_iter().map(|(name, info)| (name, Place { shard: 0, info })).collect();
        Ok(Weights { path: path.to_owned(), shards: vec![shard], tensors })
    }

    /// Reads the headers of `model.safetensors` or, if there is none, of the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// As [`Weights::open`]; when there is neither; and when index, shards and folder do not
    /// agree.
    pub fn open_folder(dir: &Path) -> Result<Self, CheckpointError> {
        let (single, index) = (dir.join(WEIGHTS_FILE), dir.join(INDEX_FILE));
        if single.exists() {
            return Weights::open(&single);
        }
        if index.exists() {
            return Weights::open_shards(dir, &index);
        }
        match PICKLES.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
            Some(path) => Err(CheckpointError::Pickle { path, dir: dir.to_owned() }),
            None => Err(CheckpointError::NoCheckpoint {
                path: dir.to_owned(),
                reason: format!("no weights here; expected {WEIGHTS_FILE} or {INDEX_FILE}"),
            }),
        }
    }

    fn open_shards(dir: &Path, path: &Path) -> Result<Self, CheckpointError> {
        let index = Index::read(path)?;
        index.check_folder(dir)?;
        let (mut shards, mut tensors) = (Vec::new(), BTreeMap::new());
        for file in index.files() {
            let path = dir.join(file);
            if !path.exists() {
                return Err(index.missing(file));
            }
            let (shard, found) = Shard::open(&path)?;
            for (name, info) in found {
                index.check_tensor(&name, file)?;
                tensors.insert(name, Place { shard: shards.len(), info });
            }
            shards.push(shard);
        }
        index.check_complete(|name| tensors.contains_key(name))?;
        Ok(Weights { path: path.to_owned(), shards, tensors })
    }

    /// The files that hold the weights, and the index if there is one.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let shards = self.shards.iter().map(|shard| shard.path.as_path());
        let is_index = shards.clone().all(|path| path != self.path);
        shards.chain(is_index.then_some(self.path.as_path()))
    }

    /// The file, or the index of the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names with shapes, in alphabetical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), place.info.shape.as_slice()))
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Slowest dimension first.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], CheckpointError> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    /// How the weights are stored.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn dtype(&self, name: &str) -> Result<Dtype, CheckpointError> {
        self.info(name).map(|info| info.dtype)
    }

    /// The bytes of one tensor as they are stored.
    ///
    /// # Errors
    /// When there is no such tensor or the file cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let place = self.place(name)?;
        let (start, end) = place.info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.shards[place.shard].read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    /// One tensor, row-major; F16 and BF16 are widened.
    ///
    /// # Errors
    /// When there is no such tensor, it holds something else than floats, or the file cannot be
    /// read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let elements = self.info(name)?.shape.iter().product();
        let mut values = vec![0.0; elements];
        self.read_f32_at(name, 0, &mut values)?;
        Ok(values)
    }

    /// Part of a tensor: as many weights as `out` holds, from position `first` of the row-major
    /// order on.
    ///
    /// # Errors
    /// As [`Weights::read_f32`], and when the part reaches past the end of the tensor.
    pub fn read_f32_at(
        &self,
        name: &str,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let Place { shard, info } = self.place(name)?;
        let shard = &self.shards[*shard];
        let elements: usize = info.shape.iter().product();
        if first.checked_add(out.len()).is_none_or(|end| end > elements) {
            let reason = format!("tensor {name} has {elements} weights, asked for more");
            return Err(CheckpointError::Content { path: shard.path.clone(), reason });
        }
        let width = info.dtype.bitsize() / 8;
        let start = info.data_offsets.0 + first * width;
        match info.dtype {
            Dtype::F32 => shard.read_at(start, bytemuck::cast_slice_mut(out)),
            Dtype::F16 => {
                let mut stored = vec![f16::ZERO; out.len()];
                shard.read_at(start, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            Dtype::BF16 => {
                let mut stored = vec![bf16::ZERO; out.len()];
                shard.read_at(start, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            _ => self.check_float(name),
        }
    }

    /// Refuses a tensor that [`Weights::read_f32`] could not read.
    pub(crate) fn check_float(&self, name: &str) -> Result<(), CheckpointError> {
        let Place { shard, info } = self.place(name)?;
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(CheckpointError::Dtype {
                path: self.shards[*shard].path.clone(),
                name: name.to_owned(),
                found: other.to_string(),
                expected: "F32, F16 or BF16",
            }),
        }
    }

    /// Gives every tensor the name that `rename` makes of its own; no two may become equal.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> String) {
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, info)| (rename(&name), info)).collect();
    }

    /// Forgets a tensor.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        self.place(name).map(|place| &place.info)
    }

    fn place(&self, name: &str) -> Result<&Place, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }
}
