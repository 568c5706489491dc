//! Reads a model that `gguf-split` of llama.cpp has split into several files as one.

use std::borrow::Cow;
use std::path::Path;

use crate::{GgufError, GgufFile, Layout, Metadata, RawModel, TensorInfo, TensorSource};

/// The prefix of the keys with the number of a part and the count of parts.
const SPLIT_KEYS: &str = "split.";

/// A GGUF in one file or several, mapped into memory.
///
/// Keys are those of the first part, without the ones that number the parts. Tensors are in the
/// order of the parts, with the offsets that they would have in one file.
#[derive(Debug)]
pub struct GgufParts {
    files: Vec<GgufFile>,
    metadata: Metadata,
    layout: Layout,
    /// For each tensor, its file and its index there.
    owners: Vec<(usize, usize)>,
}

impl GgufParts {
    /// Opens the file at `path` and, if it is one of several parts, the others in the same folder.
    ///
    /// # Errors
    /// Those of [`GgufFile::open`] for each part, and [`GgufError::Parts`] when one is missing or
    /// the parts do not belong together.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let named = GgufFile::open(path)?;
        if named.metadata().unsigned("split.count").unwrap_or(1) <= 1 {
            return Self::join(vec![named], path);
        }
        let model = RawModel::open(path)?;
        if !model.problems.is_empty() {
            let problem = model.problems.join("; ");
            return Err(GgufError::Parts { path: path.to_owned(), problem });
        }
        let files = model.parts.iter().map(|part| GgufFile::open(&part.path));
        Self::join(files.collect::<Result<_, _>>()?, path)
    }

    /// `path` is the file that an error names if the parts do not fit together.
    fn join(files: Vec<GgufFile>, path: &Path) -> Result<Self, GgufError> {
        let metadata = files[0].metadata().without(SPLIT_KEYS);
        let (mut described, mut owners) = (Vec::new(), Vec::new());
        for (number, file) in files.iter().enumerate() {
            check_number(file, number)?;
            for (index, tensor) in file.tensors().iter().enumerate() {
                described.push((tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type));
                owners.push((number, index));
            }
        }
        // Two parts may contain tensors of the same name; planning one file detects this.
        let layout = Layout::plan(&metadata, &described)
            .map_err(|source| GgufError::InFile { path: path.to_owned(), source: source.into() })?;
        Ok(GgufParts { files, metadata, layout, owners })
    }

    /// The files, in order.
    pub fn files(&self) -> &[GgufFile] {
        &self.files
    }

    /// The layout that one file would have.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file that holds `tensor`, and its description there.
    fn owner(&self, tensor: &TensorInfo) -> Result<(&GgufFile, &TensorInfo), GgufError> {
        let (file, index) = self.owners[self.layout.index_of(tensor)?];
        Ok((&self.files[file], &self.files[file].tensors()[index]))
    }
}

/// Refuses a part whose own number is not the one in its file name.
fn check_number(file: &GgufFile, number: usize) -> Result<(), GgufError> {
    match file.metadata().unsigned("split.no") {
        Ok(found) if found != number as u64 => {
            let problem = format!("split.no = {found}: expected {number}; fetch it again");
            Err(GgufError::Parts { path: file.path().to_owned(), problem })
        }
        _ => Ok(()),
    }
}

impl TensorSource for GgufParts {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.layout.tensors
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.layout.tensor(name)
    }

    /// # Errors
    /// [`GgufError::MissingTensor`] if `tensor` is not a tensor of this model.
    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        let (file, tensor) = self.owner(tensor)?;
        file.read(tensor)
    }

    fn read_matrix(&self, tensor: &TensorInfo, index: usize) -> Result<Cow<'_, [u8]>, GgufError> {
        let (file, tensor) = self.owner(tensor)?;
        file.read_matrix(tensor, index)
    }

    fn release(&self, tensor: &TensorInfo) {
        if let Ok((file, tensor)) = self.owner(tensor) {
            file.release(tensor);
        }
    }
}
