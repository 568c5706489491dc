//! The header of one safetensors file.

use std::path::Path;

use safetensors::tensor::Metadata;

use super::data_file::DataFile;
use super::place::{Place, Values};
use crate::CheckpointError;

/// Longest header that is read: the limit that the format itself sets.
const HEADER_LIMIT: u64 = 100_000_000;

/// Opens a file and reads its header; weights are not read yet.
pub(super) fn open(path: &Path) -> Result<(DataFile, Vec<(String, Place)>), CheckpointError> {
    let file = DataFile::open(path)?;
    let size = file.size;
    let refuse = |reason: String| CheckpointError::Container { path: path.to_owned(), reason };

    let mut length = [0; 8];
    if size < 8 {
        return Err(refuse(format!("{size} bytes, shorter than a header")));
    }
    file.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_LIMIT || length + 8 > size {
        return Err(refuse(format!("a header of {length} bytes in a file of {size}")));
    }
    let header = file.bytes(8, length as usize)?;
    // Deserializing checks shapes against offsets, and that there are no gaps between tensors.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| refuse(error.to_string()))?;
    let data_start = length + 8;
    let expected = data_start.saturating_add(metadata.data_len() as u64);
    if expected != size {
        return Err(refuse(format!("{size} bytes, expected {expected}; copy it again")));
    }
    let place = |info: &safetensors::tensor::TensorInfo| Place {
        file: 0,
        dtype: info.dtype,
        shape: info.shape.clone(),
        values: Values::Stored { start: data_start + info.data_offsets.0 as u64, strides: None },
    };
    let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, place(info))).collect();
    Ok((file, tensors))
}
