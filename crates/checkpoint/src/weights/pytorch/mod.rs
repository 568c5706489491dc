//! Reads files of `torch.save` without running any code in them.
//!
//! ```text
//! zip archive (since PyTorch 1.6)          stream of pickles (before)
//!   NAME/data.pkl     the object             magic number, version, facts about the machine
//!   NAME/byteorder    little or big          the object
//!   NAME/data/KEY     each storage           the keys of the storages
//!                                            each storage: i64 elements, the elements
//! ```
//!
//! Only the pickle is read into memory ([`crate::pickle`]). Storages are uncompressed in both
//! formats, so a tensor is a range of bytes of the file, or a view with strides into one.
//!
//! Source: `_save` and `_legacy_save` in `torch/serialization.py`.

mod archive;
mod stream;

use std::collections::HashMap;
use std::path::Path;

use super::Weights;
use super::data_file::DataFile;
use super::pickle::{Object, Pickle, PickleError, Shown, Storage, Tensor, Value};
use super::place::{Place, Values};
use crate::CheckpointError;
use crate::foreign::without_wrappers;

/// Longest pickle that is read. A model of 100,000 tensors takes 20 MB.
const PICKLE_BYTES: u64 = 64 << 20;

/// First bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// The oldest format: an archive of `tar`, recognised by these letters at byte 257.
const TAR: (u64, &[u8]) = (257, b"ustar");

/// A file of `torch.save`, its pickle in memory.
#[derive(Debug)]
pub struct TorchFile {
    file: DataFile,
    pickle: Vec<u8>,
    storages: Storages,
}

/// The places of the storages in a file.
#[derive(Debug)]
enum Storages {
    /// Entries of an archive by the key of the storage: first byte and length.
    Entries(HashMap<String, (u64, u64)>),
    /// After the pickles, each with its number of elements before it, in the order of the keys; the
    /// first one begins at `start`.
    Stream { keys: Vec<String>, start: u64 },
}

impl TorchFile {
    /// Opens a file and reads its pickle; weights are not read yet.
    ///
    /// # Errors
    /// When it has neither of the two formats, is damaged, compressed, or from a big-endian
    /// machine.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = DataFile::open(path)?;
        let starts = |at: u64, mark: &[u8]| -> Result<bool, CheckpointError> {
            let fits = file.size >= at + mark.len() as u64;
            Ok(fits && file.bytes(at, mark.len())? == mark)
        };
        if starts(0, ZIP)? {
            return archive::open(file);
        }
        if starts(0, stream::START)? {
            return stream::open(file);
        }
        let found = match starts(TAR.0, TAR.1)? {
            true => "a tar archive, as PyTorch wrote before version 0.1.10",
            false => "no file of torch.save",
        };
        Err(refuse(
            path,
            &format!(
                "{found}; expected a zip archive, or a stream of pickles as before PyTorch 1.6: \
                 load it with PyTorch and save the weights again"
            ),
        ))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Reads the pickle.
    ///
    /// # Errors
    /// When it holds something that weights do not need; the error names it.
    pub fn parse(&self) -> Result<Pickle<'_>, CheckpointError> {
        Pickle::read(&self.pickle).map_err(|error| not_plain(self.path(), &error))
    }

    /// The tensors of a dictionary of the file by name, without the parts that wrappers such as
    /// `torch.compile` add to the names.
    ///
    /// # Errors
    /// When `dictionary` is not a dictionary, an entry of it is not a tensor, or a storage is
    /// missing.
    pub fn into_weights(self, dictionary: Dictionary) -> Result<Weights, CheckpointError> {
        let places = self.places(dictionary)?;
        let mut weights = Weights::empty(self.path());
        weights.add(self.file, places)?;
        weights.rename(without_wrappers)?;
        Ok(weights)
    }

    /// File and places of the tensors at the root of the file.
    pub(super) fn into_places(self) -> Result<(DataFile, Vec<(String, Place)>), CheckpointError> {
        let places = self.places(Dictionary::Root)?;
        Ok((self.file, places))
    }

    fn places(&self, dictionary: Dictionary) -> Result<Vec<(String, Place)>, CheckpointError> {
        let pickle = self.parse()?;
        let refuse = |reason: String| refuse(self.path(), &reason);
        let (value, called) = match dictionary {
            Dictionary::Root => (Some(pickle.root()), "it"),
            Dictionary::Entry(key) => (pickle.get(pickle.root(), key), key),
        };
        let Some(entries) = value.and_then(|value| pickle.entries(value)) else {
            let kind = value.map_or("nothing", |value| pickle.kind(value));
            return Err(refuse(format!("{called} is {kind}, expected a dictionary of tensors")));
        };
        let starts = self.starts(&pickle)?;
        let mut places = Vec::with_capacity(entries.len());
        for &(key, value) in entries {
            let name = pickle.as_text(key).ok_or_else(|| {
                refuse(format!("{called} has {} for a key, expected a name", pickle.kind(key)))
            })?;
            let Some(Object::Tensor(tensor)) = pickle.object(value) else {
                return Err(refuse(format!(
                    "{} is {}, expected a tensor; save the weights alone: \
                     torch.save(model.state_dict(), FILE)",
                    Shown(name),
                    pickle.kind(value)
                )));
            };
            places.push((name.to_owned(), self.place(&pickle, tensor, &starts)?));
        }
        Ok(places)
    }

    /// The start of each storage of a stream; `None` for an archive.
    fn starts(&self, pickle: &Pickle) -> Result<HashMap<String, u64>, CheckpointError> {
        match &self.storages {
            Storages::Entries(_) => Ok(HashMap::new()),
            Storages::Stream { keys, start } => stream::starts(&self.file, pickle, keys, *start),
        }
    }

    fn place(
        &self,
        pickle: &Pickle,
        tensor: &Tensor,
        starts: &HashMap<String, u64>,
    ) -> Result<Place, CheckpointError> {
        let Tensor { storage, offset, shape, .. } = tensor;
        let key = pickle.text(storage.key);
        let missing = || {
            let reason = format!("storage {} is not there; copy the file again", Shown(key));
            refuse(self.path(), &reason)
        };
        let start = match &self.storages {
            Storages::Entries(entries) => {
                let &(start, length) = entries.get(key).ok_or_else(missing)?;
                self.check_length(key, storage, length)?;
                start
            }
            Storages::Stream { .. } => *starts.get(key).ok_or_else(missing)?,
        };
        let width = (storage.dtype.bitsize() / 8) as u64;
        Ok(Place {
            file: 0,
            dtype: storage.dtype,
            shape: shape.clone(),
            values: Values::Stored {
                // Inside of the storage, which is inside of the file.
                start: start + *offset as u64 * width,
                strides: tensor.odd_strides().map(<[usize]>::to_vec),
            },
        })
    }

    fn check_length(
        &self,
        key: &str,
        storage: &Storage,
        length: u64,
    ) -> Result<(), CheckpointError> {
        match storage.bytes() {
            Some(expected) if expected == length => Ok(()),
            _ => Err(refuse(
                self.path(),
                &format!(
                    "storage {} has {length} bytes, expected {} elements of {}",
                    Shown(key),
                    storage.elements,
                    storage.dtype
                ),
            )),
        }
    }
}

/// The dictionary of a file that holds the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dictionary<'a> {
    /// The file itself: `torch.save(model.state_dict(), FILE)`.
    Root,
    /// The dictionary under a key of the file.
    Entry(&'a str),
}

fn refuse(path: &Path, reason: &str) -> CheckpointError {
    CheckpointError::Torch { path: path.to_owned(), reason: reason.to_owned() }
}

/// The error for a pickle that contains more than tensors.
fn not_plain(path: &Path, error: &PickleError) -> CheckpointError {
    refuse(
        path,
        &format!(
            "{error}; nothing of it was run. If you trust the file, load it with PyTorch and save \
             the weights alone, best as safetensors: \
             safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")"
        ),
    )
}

/// A pickle with one value, used around the weights.
fn only(path: &Path, bytes: &[u8]) -> Result<(Value, usize), CheckpointError> {
    let pickle = Pickle::read(bytes).map_err(|error| not_plain(path, &error))?;
    Ok((pickle.root(), pickle.length()))
}
