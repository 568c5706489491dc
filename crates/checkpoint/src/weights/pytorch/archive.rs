//! The zip archive that `torch.save` writes since PyTorch 1.6.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::{PICKLE_BYTES, Storages, TorchFile, refuse};
use crate::CheckpointError;
use crate::weights::data_file::DataFile;

/// The name of the pickle, after the name of the archive.
const PICKLE: &str = "data.pkl";

pub(super) fn open(file: DataFile) -> Result<TorchFile, CheckpointError> {
    let path = file.path.clone();
    let damaged = |error: &dyn std::fmt::Display| {
        refuse(&path, &format!("a damaged zip archive ({error}); copy the file again"))
    };
    let reader = file.file().try_clone().map_err(CheckpointError::io(&path))?;
    let mut archive = ZipArchive::new(BufReader::new(reader)).map_err(|e| damaged(&e))?;

    let mut found = HashMap::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| damaged(&e))?;
        let name = entry.name().map_err(|e| damaged(&e))?.into_owned();
        let plain = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
        if !plain {
            return Err(refuse(
                &path,
                &format!(
                    "entry {name:?} is compressed or encrypted, as torch.save never writes it; \
                     unpack it and load it with PyTorch"
                ),
            ));
        }
        let (start, length) = (entry.data_start(), entry.size());
        drop(entry);
        let start = start.ok_or_else(|| damaged(&"an entry without data"))?;
        if start.checked_add(length).is_none_or(|end| end > file.size) {
            return Err(damaged(&format_args!("entry {name:?} reaches past the end")));
        }
        found.insert(name, (index, start, length));
    }
    let (root, &(index, _, length)) = pickle(&path, &found)?;
    let root = root.to_owned();
    if found.contains_key(&format!("{root}constants.pkl")) {
        return Err(refuse(
            &path,
            "a TorchScript archive, which holds a program; expected the weights alone: \
             torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        ));
    }
    if length > PICKLE_BYTES {
        let limit = PICKLE_BYTES;
        return Err(CheckpointError::TooLarge { path, size: length, limit });
    }
    let mut pickle = Vec::with_capacity(length as usize);
    let entry = archive.by_index(index).map_err(|e| damaged(&e))?;
    entry.take(PICKLE_BYTES).read_to_end(&mut pickle).map_err(|e| damaged(&e))?;
    check_byte_order(&file, &found, &root)?;

    let data = format!("{root}data/");
    let entries = found
        .into_iter()
        .filter_map(|(name, (_, start, length))| {
            Some((name.strip_prefix(&data)?.to_owned(), (start, length)))
        })
        .collect();
    Ok(TorchFile { file, pickle, storages: Storages::Entries(entries) })
}

/// Entries of an archive: index in it, first byte, length.
type Found = HashMap<String, (usize, u64, u64)>;

/// The pickle's entry, and the path before its name.
fn pickle<'a>(
    path: &Path,
    found: &'a Found,
) -> Result<(&'a str, &'a (usize, u64, u64)), CheckpointError> {
    let mut all = found.iter().filter_map(|(name, entry)| {
        let root = name.strip_suffix(PICKLE)?;
        (root.is_empty() || root.ends_with('/') && root.matches('/').count() == 1)
            .then_some((root, entry))
    });
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(refuse(
            path,
            "a zip archive without data.pkl, so no file of torch.save; if it is MLX's or NumPy's \
             .npz, save the weights as safetensors: mx.save_safetensors",
        )),
        (Some(_), Some(_)) => Err(refuse(path, "a zip archive with several data.pkl")),
    }
}

/// Numbers are read in the memory format of a little-endian machine.
fn check_byte_order(file: &DataFile, found: &Found, root: &str) -> Result<(), CheckpointError> {
    let Some(&(_, start, length)) = found.get(&format!("{root}byteorder")) else { return Ok(()) };
    let order = file.bytes(start, length.min(8) as usize)?;
    match order.as_slice() {
        b"little" => Ok(()),
        b"big" => Err(big_endian(&file.path)),
        _ => Err(refuse(&file.path, "a byteorder that is neither little nor big")),
    }
}

/// The error for weights of a big-endian machine.
pub(super) fn big_endian(path: &Path) -> CheckpointError {
    refuse(
        path,
        "its numbers are big-endian, expected little-endian; load it with PyTorch and save it \
         again on a little-endian machine",
    )
}
