//! Chooses where a file is cut into pieces.
//!
//! The header (with the metadata) and each tensor (with the padding behind it) are the *items* of
//! a file. They are packed in order: an item that does not fit into the rest of a piece starts the
//! next one, and an item that is larger than a piece gets pieces of its own. So a reader of one
//! tensor fetches as few pieces as possible, and a small change moves only the cuts near it.

use std::ops::Range;

use anyhow::{Context, ensure};
use gguf::Layout;

use crate::manifest::{MAX_ENTRIES, Shard};

/// The byte ranges of the pieces of a file of this layout and size, none longer than `max_bytes`.
///
/// Cuts inside an item are at multiples of the alignment, so that the last shard of a tensor always
/// contains some of its bytes and not only padding.
///
/// # Errors
/// When `max_bytes` is smaller than the file's alignment or gives more pieces than a manifest may
/// list, or the layout contradicts itself.
pub fn pack(layout: &Layout, file_size: u64, max_bytes: u64) -> anyhow::Result<Vec<Range<u64>>> {
    let alignment = layout.alignment.max(1);
    let room = max_bytes - max_bytes % alignment;
    ensure!(
        room > 0,
        "--max-bytes {max_bytes}: expected at least the file's alignment {alignment}"
    );

    // The smallest possible number of pieces, checked before memory is allocated for them.
    check_count(file_size.div_ceil(room), file_size, max_bytes)?;
    let mut pieces: Vec<Range<u64>> = Vec::new();
    let mut open: Option<Range<u64>> = None;
    for item in items(layout, file_size)? {
        let size = item.end - item.start;
        if size > room {
            pieces.extend(open.take());
            let starts = (item.start..item.end).step_by(usize::try_from(room)?);
            pieces.extend(starts.map(|start| start..item.end.min(start.saturating_add(room))));
            continue;
        }
        match &mut open {
            Some(piece) if item.end - piece.start <= room => piece.end = item.end,
            _ => pieces.extend(open.replace(item)),
        }
    }
    pieces.extend(open);
    check_count(pieces.len() as u64, file_size, max_bytes)?;
    Ok(pieces)
}

/// Pieces may be half empty if tensors do not fill them, so the suggested size is larger.
fn check_count(pieces: u64, file_size: u64, max_bytes: u64) -> anyhow::Result<()> {
    let enough = file_size.div_ceil(MAX_ENTRIES as u64 / 4).next_power_of_two();
    ensure!(
        pieces <= MAX_ENTRIES as u64,
        "--max-bytes {max_bytes}: gives {pieces} pieces or more, a manifest lists at most \
         {MAX_ENTRIES}; use --max-bytes {enough}"
    );
    Ok(())
}

/// The shards of bytes `start..end`, given all pieces in order.
pub fn shards(pieces: &[Range<u64>], start: u64, end: u64) -> Vec<Shard> {
    let first = pieces.partition_point(|piece| piece.end <= start);
    let last = pieces.partition_point(|piece| piece.start < end);
    let total_shards = last.saturating_sub(first);
    (first..last)
        .enumerate()
        .map(|(shard_index, fragment_id)| {
            let piece = &pieces[fragment_id];
            let from = start.max(piece.start);
            Shard {
                fragment_id,
                shard_index,
                total_shards,
                offset: from - piece.start,
                length: end.min(piece.end) - from,
            }
        })
        .collect()
}

/// The header and every tensor with its padding; together they are the whole file.
fn items(layout: &Layout, file_size: u64) -> anyhow::Result<Vec<Range<u64>>> {
    let mut starts = vec![0];
    for tensor in &layout.tensors {
        let start = layout.data_start.checked_add(tensor.offset);
        starts.push(start.with_context(|| format!("tensor {} lies beyond any file", tensor.name))?);
    }
    let ends = starts.iter().skip(1).copied().chain([file_size]);
    let items: Vec<Range<u64>> = starts.iter().zip(ends).map(|(&start, end)| start..end).collect();
    ensure!(
        items.iter().all(|item| item.start < item.end),
        "the tensors of this file are out of order or empty: export or quantize it again"
    );
    Ok(items)
}

#[cfg(test)]
mod tests {
    use gguf::{Metadata, TensorType};

    use super::*;

    #[test]
    fn pieces_too_small_for_the_manifest_are_refused_before_they_are_counted_out() {
        let tensor = ("a.weight".to_owned(), vec![1 << 48], TensorType::F32);
        let layout = Layout::plan(&Metadata::new(), &[tensor]).unwrap();
        let error = pack(&layout, layout.file_size, 4096).unwrap_err().to_string();
        assert!(error.contains("use --max-bytes 8589934592"), "{error}");
        assert!(pack(&layout, layout.file_size, 8_589_934_592).is_ok());
    }
}
