//! A model whose tensors are replaced one after the other.
//!
//! The result of the search is stored until the file is written, in the file's order, and later
//! blocks are calibrated with it. It is stored in a scratch file without a name, which is removed
//! when the process ends, so memory holds one tensor for any size of the model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use gguf::{GgufError, Metadata, TensorInfo, TensorSource, TensorType};

/// A source with some of its tensors replaced by other types or weights.
pub(crate) struct Overlay<'a> {
    source: &'a dyn TensorSource,
    tensors: Vec<TensorInfo>,
    /// Index of each tensor in `tensors`.
    places: HashMap<String, usize>,
    /// Offsets of the bytes of replaced tensors.
    replaced: HashMap<String, u64>,
    scratch: Mutex<File>,
    /// Where the scratch file is, for errors.
    folder: PathBuf,
    end: u64,
}

impl<'a> Overlay<'a> {
    /// An overlay without replacements; these will go to a file without a name in `folder`.
    ///
    /// # Errors
    /// When the file cannot be created there.
    pub fn new(source: &'a dyn TensorSource, folder: &Path) -> Result<Self> {
        let scratch = tempfile::tempfile_in(folder)
            .with_context(|| format!("cannot make a scratch file in {}", folder.display()))?;
        let tensors = source.tensors().to_vec();
        let places = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Overlay {
            source,
            tensors,
            places,
            replaced: HashMap::new(),
            scratch: Mutex::new(scratch),
            folder: folder.to_owned(),
            end: 0,
        })
    }

    /// Replaces the bytes of a tensor by `bytes`.
    ///
    /// # Errors
    /// When there is no tensor of that name, or not enough space for its bytes.
    pub fn replace(&mut self, name: &str, tensor_type: TensorType, bytes: &[u8]) -> Result<()> {
        let place = *self
            .places
            .get(name)
            .ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })?;
        let file = self.scratch.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.end)).and_then(|_| file.write_all(bytes)).with_context(
            || {
                let folder = self.folder.display();
                format!("cannot keep tensor {name} in a scratch file in {folder}")
            },
        )?;
        self.replaced.insert(name.to_owned(), self.end);
        self.end += bytes.len() as u64;
        let tensor = &mut self.tensors[place];
        tensor.tensor_type = tensor_type;
        tensor.size = bytes.len() as u64;
        Ok(())
    }

    /// Restores the original bytes of a tensor, if they were replaced.
    pub fn restore(&mut self, name: &str) {
        if self.replaced.remove(name).is_some()
            && let Ok(own) = self.source.tensor(name)
        {
            self.tensors[self.places[name]] = own.clone();
        }
    }

    /// The source without replacements.
    pub fn source(&self) -> &'a dyn TensorSource {
        self.source
    }

    fn read_replaced(&self, start: u64, size: u64) -> io::Result<Vec<u8>> {
        let mut file = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; size as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl TensorSource for Overlay<'_> {
    fn metadata(&self) -> &Metadata {
        self.source.metadata()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        let missing = || GgufError::MissingTensor { name: name.to_owned() };
        Ok(&self.tensors[*self.places.get(name).ok_or_else(missing)?])
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        match self.replaced.get(&tensor.name) {
            None => self.source.read(self.source.tensor(&tensor.name)?),
            Some(&start) => self
                .read_replaced(start, tensor.size)
                .map(Cow::Owned)
                .map_err(|source| GgufError::Io { path: "(scratch file)".into(), source }),
        }
    }

    fn read_matrix(&self, tensor: &TensorInfo, index: usize) -> Result<Cow<'_, [u8]>, GgufError> {
        match self.replaced.get(&tensor.name) {
            None => self.source.read_matrix(self.source.tensor(&tensor.name)?, index),
            Some(&start) => {
                let range = gguf::matrix_range(tensor, index)?;
                self.read_replaced(start + range.start as u64, range.len() as u64)
                    .map(Cow::Owned)
                    .map_err(|source| GgufError::Io { path: "(scratch file)".into(), source })
            }
        }
    }

    fn release(&self, tensor: &TensorInfo) {
        if !self.replaced.contains_key(&tensor.name)
            && let Ok(tensor) = self.source.tensor(&tensor.name)
        {
            self.source.release(tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reference::MemorySource;

    #[test]
    fn a_replaced_tensor_is_read_instead_of_the_sources_own() {
        let mut source = MemorySource::new(Metadata::new());
        source.add("a.weight", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        source.add("b.weight", &[2], vec![5.0, 6.0]);
        let folder = tempfile::tempdir().unwrap();
        let mut overlay = Overlay::new(&source, folder.path()).unwrap();
        overlay.replace("a.weight", TensorType::F16, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        overlay.replace("a.weight", TensorType::BF16, &[8, 7, 6, 5, 4, 3, 2, 1]).unwrap();
        let a = overlay.tensor("a.weight").unwrap();
        assert_eq!((a.tensor_type, a.size), (TensorType::BF16, 8));
        assert_eq!(*overlay.read(a).unwrap(), [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(overlay.read(overlay.tensor("b.weight").unwrap()).unwrap().len(), 8);
        assert!(overlay.replace("c.weight", TensorType::F32, &[]).is_err());
        assert!(overlay.tensor("c.weight").is_err());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the scratch file has no name"
        );
    }
}
