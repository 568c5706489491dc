//! The stream of pickles that `torch.save` wrote before PyTorch 1.6, and still writes if the zip
//! archive is switched off.

use std::collections::HashMap;

use super::archive::big_endian;
use super::{PICKLE_BYTES, Storages, TorchFile, not_plain, only, refuse};
use crate::CheckpointError;
use crate::weights::data_file::DataFile;
use crate::weights::pickle::{Object, Pickle, Shown, Value};

/// The complete pickle of the magic number 0x1950a86a20f9469cfc6c: protocol 2, an integer of ten
/// bytes, the end.
pub(super) const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// `PROTOCOL_VERSION` of `torch/serialization.py`.
const VERSION: i64 = 1001;

pub(super) fn open(file: DataFile) -> Result<TorchFile, CheckpointError> {
    let path = file.path.clone();
    let bytes = file.bytes(0, file.size.min(PICKLE_BYTES) as usize)?;
    let mut at = START.len();
    let (version, length) = only(&path, &bytes[at..])?;
    if version != Value::Int(VERSION) {
        return Err(refuse(&path, "another version of the format, expected 1001"));
    }
    at += length;
    let facts = Pickle::read(&bytes[at..]).map_err(|error| not_plain(&path, &error))?;
    if facts.get(facts.root(), "little_endian") != Some(Value::Bool(true)) {
        return Err(big_endian(&path));
    }
    at += facts.length();
    let (_, length) = only(&path, &bytes[at..])?;
    let pickle = bytes[at..at + length].to_vec();
    at += length;
    let list = Pickle::read(&bytes[at..]).map_err(|error| not_plain(&path, &error))?;
    let Some(Object::List(keys)) = list.object(list.root()) else {
        return Err(refuse(&path, "no list of storages behind the weights"));
    };
    let keys = keys.iter().map(|&key| list.as_text(key).map(str::to_owned));
    let keys = keys.collect::<Option<Vec<String>>>();
    let keys = keys.ok_or_else(|| refuse(&path, "a list of storages that are not named"))?;
    let start = (at + list.length()) as u64;
    Ok(TorchFile { file, pickle, storages: Storages::Stream { keys, start } })
}

/// The first byte of each storage, by its key.
pub(super) fn starts(
    file: &DataFile,
    pickle: &Pickle,
    keys: &[String],
    start: u64,
) -> Result<HashMap<String, u64>, CheckpointError> {
    let mut storages = HashMap::new();
    for storage in pickle.storages() {
        storages.insert(pickle.text(storage.key), *storage);
    }
    let mut starts = HashMap::with_capacity(keys.len());
    let mut at = start;
    for key in keys {
        let refuse = |what: &str| refuse(&file.path, &format!("storage {}: {what}", Shown(key)));
        let storage = storages.get(key.as_str());
        let storage = storage.ok_or_else(|| refuse("nothing looks into it"))?;
        let mut count = [0; 8];
        let cut = "the file ends before it does; copy it again";
        if at.checked_add(8).is_none_or(|end| end > file.size) {
            return Err(refuse(cut));
        }
        file.read_at(at, &mut count)?;
        if i64::from_le_bytes(count) != storage.elements as i64 {
            return Err(refuse("another number of elements than the tensors have it"));
        }
        let end = storage.bytes().and_then(|bytes| (at + 8).checked_add(bytes));
        let end = end.filter(|&end| end <= file.size).ok_or_else(|| refuse(cut))?;
        starts.insert(key.clone(), at + 8);
        at = end;
    }
    match at == file.size {
        true => Ok(starts),
        false => Err(refuse(&file.path, "bytes behind the last storage; copy it again")),
    }
}
