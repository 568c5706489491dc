//! Reading safetensors and PyTorch files, one tensor or a part of one at a time.
//!
//! The files are read by position and not mapped: the touched pages of a mapping count towards the
//! memory of the process, and export must hold one tensor only.

mod affine;
mod data_file;
mod folder;
mod index;
pub mod pickle;
mod place;
mod pytorch;
mod safetensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::CheckpointError;

use data_file::DataFile;
use folder::Format;
use pickle::Shown;
use place::{Place, Values};

pub(crate) use affine::dequantize;
pub(crate) use folder::other_form;
pub use pytorch::{Dictionary, TorchFile};

pub use ::safetensors::Dtype;

/// The tensors of a model, from one file or from the shards of an index.
#[derive(Debug)]
pub struct Weights {
    /// The file, or the index.
    path: PathBuf,
    files: Vec<DataFile>,
    tensors: BTreeMap<String, Place>,
}

impl Weights {
    /// Reads the header of one safetensors file, or of a PyTorch file if its name ends in `.bin`;
    /// weights are not read yet.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated, has gaps, or has another format.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (file, tensors) = Format::of(path).open(path)?;
        let mut weights = Weights::empty(path);
        weights.add(file, tensors)?;
        Ok(weights)
    }

    /// Reads the headers of the weights of a Hugging Face folder: the first that exists of
    /// `model.safetensors`, `model.safetensors.index.json` with the shards that it names,
    /// `pytorch_model.bin` and `pytorch_model.bin.index.json`, as transformers prefers them.
    ///
    /// # Errors
    /// As [`Weights::open`]; when none of them exists; and when index, shards and folder do not
    /// match.
    pub fn open_folder(dir: &Path) -> Result<Self, CheckpointError> {
        folder::open(dir)
    }

    fn empty(path: &Path) -> Self {
        Weights { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Adds a file with the tensors that it holds.
    fn add(
        &mut self,
        file: DataFile,
        tensors: Vec<(String, Place)>,
    ) -> Result<(), CheckpointError> {
        for (name, place) in tensors {
            let place = Place { file: self.files.len(), ..place };
            self.insert(name, place)?;
        }
        self.files.push(file);
        Ok(())
    }

    fn insert(&mut self, name: String, place: Place) -> Result<(), CheckpointError> {
        match self.tensors.insert(name.clone(), place) {
            None => Ok(()),
            Some(_) => Err(CheckpointError::Content {
                path: self.path.clone(),
                reason: format!("tensor {} is there twice", Shown(&name)),
            }),
        }
    }

    /// The files that hold the weights, and the index if there is one.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter().map(|file| file.path.as_path());
        let is_index = files.clone().all(|path| path != self.path);
        files.chain(is_index.then_some(self.path.as_path()))
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
        self.tensors.iter().map(|(name, place)| (name.as_str(), place.shape.as_slice()))
    }

    /// Whether there is a tensor named `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Slowest dimension first.
    ///
    /// # Errors
    /// When the tensor does not exist.
    pub fn shape(&self, name: &str) -> Result<&[usize], CheckpointError> {
        self.place(name).map(|place| place.shape.as_slice())
    }

    /// The storage format of a tensor.
    ///
    /// # Errors
    /// When the tensor does not exist.
    pub fn dtype(&self, name: &str) -> Result<Dtype, CheckpointError> {
        self.place(name).map(|place| place.dtype)
    }

    /// The values of one tensor as they are stored, in row-major order.
    ///
    /// # Errors
    /// When the tensor does not exist or the file cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let place = self.place(name)?;
        let mut bytes = vec![0; place.elements() * place.width()];
        place.read(&self.files, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// One tensor, row-major; F16 and BF16 are upcast.
    ///
    /// # Errors
    /// When the tensor does not exist, does not hold floats, or the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let mut values = vec![0.0; self.place(name)?.elements()];
        self.read_f32_at(name, 0, &mut values)?;
        Ok(values)
    }

    /// Part of a tensor: fills `out` with the weights from position `first` of the row-major order.
    ///
    /// # Errors
    /// As [`Weights::read_f32`], and when the part reaches past the end of the tensor.
    pub fn read_f32_at(
        &self,
        name: &str,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let place = self.place(name)?;
        let elements = place.elements();
        if first.checked_add(out.len()).is_none_or(|end| end > elements) {
            let reason = format!("tensor {name} has {elements} weights, asked for more");
            return Err(CheckpointError::Content { path: self.path.clone(), reason });
        }
        self.check_float(name)?;
        place.read_f32(&self.files, first, out)
    }

    /// Refuses a tensor that [`Weights::read_f32`] could not read.
    ///
    /// # Errors
    /// When it does not hold floats, or does not exist.
    pub fn check_float(&self, name: &str) -> Result<(), CheckpointError> {
        let place = self.place(name)?;
        match place.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(CheckpointError::Dtype {
                path: self.files[place.file].path.clone(),
                name: name.to_owned(),
                found: other.to_string(),
                expected: "F32, F16 or BF16",
            }),
        }
    }

    /// Renames every tensor with `rename`.
    ///
    /// # Errors
    /// When two names become equal.
    pub(crate) fn rename(
        &mut self,
        rename: impl Fn(&str) -> String,
    ) -> Result<(), CheckpointError> {
        let tensors = std::mem::take(&mut self.tensors);
        tensors.into_iter().try_for_each(|(name, place)| self.insert(rename(&name), place))
    }

    /// Replaces a tensor by the matrices of shape `shape` that it consists of, one after the other,
    /// each with its own name.
    ///
    /// # Errors
    /// When the tensor does not exist, or does not consist of that many such matrices.
    pub(crate) fn divide(
        &mut self,
        name: &str,
        names: &[String],
        shape: &[usize],
    ) -> Result<(), CheckpointError> {
        let whole = Arc::new(self.place(name)?.clone());
        let size: usize = shape.iter().product();
        if size * names.len() != whole.elements() {
            let reason = format!("tensor {name} is no {} matrices {shape:?}", names.len());
            return Err(CheckpointError::Content { path: self.path.clone(), reason });
        }
        self.tensors.remove(name);
        names.iter().enumerate().try_for_each(|(i, name)| {
            let values = Values::Part { whole: Arc::clone(&whole), first: i * size };
            let (file, dtype) = (whole.file, whole.dtype);
            self.insert(name.clone(), Place { file, dtype, shape: shape.to_vec(), values })
        })
    }

    /// Removes a tensor from the set.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    fn place(&self, name: &str) -> Result<&Place, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }
}
