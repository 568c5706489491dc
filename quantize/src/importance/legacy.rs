//! The binary format of importance data before llama.cpp's GGUF (`imatrix.dat`).
//!
//! ```text
//! i32 entries
//! entries times:  i32 length, name | i32 calls | i32 values, f32 Σ calls · E[x²]
//! optional:       i32 chunks | i32 length, path of the text
//! ```
//!
//! All little-endian. After `common_imatrix_load_legacy` of llama.cpp.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

use super::file::ImatrixFile;

/// More bytes than the data of any model takes: 1,000 matrices for each of 100 experts.
const MOST_BYTES: u64 = 4 << 30;

/// The longest name of a tensor in a GGUF.
const LONGEST_NAME: usize = 63;

/// Whether the file at `path` is no GGUF and so, if anything, one of this format.
pub(super) fn is_legacy(path: &Path) -> anyhow::Result<bool> {
    let mut magic = [0; 4];
    let mut file = plain_file::open(path)?;
    Ok(match file.read_exact(&mut magic) {
        Ok(()) => magic != *b"GGUF",
        Err(_) => false,
    })
}

/// The texts and chunks of a file, and the means of every tensor.
pub(super) fn read(path: &Path) -> anyhow::Result<(ImatrixFile, BTreeMap<String, Vec<f32>>)> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= MOST_BYTES, "{size} bytes: expected at most {MOST_BYTES}");
    parse(&plain_file::read(path)?)
}

fn parse(bytes: &[u8]) -> anyhow::Result<(ImatrixFile, BTreeMap<String, Vec<f32>>)> {
    const WHAT: &str = "it is neither a GGUF nor the format before it, or is damaged";
    let mut rest = Rest(bytes);
    let entries = rest.count().context(WHAT)?;
    let mut means = BTreeMap::new();
    for _ in 0..entries {
        let name = rest.text(LONGEST_NAME).context(WHAT)?;
        let calls = rest.count().context(WHAT)?;
        let values = rest.count().context(WHAT)?;
        let sums = rest.take(values.checked_mul(4).context(WHAT)?).context(WHAT)?;
        let divisor = if calls > 0 { calls as f32 } else { 1.0 };
        let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let values = sums.chunks_exact(4).map(|bytes| value(bytes) / divisor).collect();
        means.insert(name, values);
    }
    let chunks = rest.count().unwrap_or(0) as u64;
    let datasets = rest.text(usize::MAX).into_iter().filter(|text| !text.is_empty()).collect();
    Ok((ImatrixFile { datasets, chunks, ..ImatrixFile::default() }, means))
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number that is not negative.
    fn count(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(i32::from_le_bytes(bytes)).ok()
    }

    fn text(&mut self, longest: usize) -> Option<String> {
        let length = self.count().filter(|&length| length <= longest)?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as `save_imatrix_legacy` writes it.
    fn file(entries: &[(&str, i32, &[f32])], tail: Option<(i32, &str)>) -> Vec<u8> {
        let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
        let number = |bytes: &mut Vec<u8>, n: i32| bytes.extend(n.to_le_bytes());
        for (name, calls, sums) in entries {
            number(&mut bytes, name.len() as i32);
            bytes.extend(name.as_bytes());
            number(&mut bytes, *calls);
            number(&mut bytes, sums.len() as i32);
            bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        }
        if let Some((chunks, dataset)) = tail {
            number(&mut bytes, chunks);
            number(&mut bytes, dataset.len() as i32);
            bytes.extend(dataset.as_bytes());
        }
        bytes
    }

    const ENTRIES: [(&str, i32, &[f32]); 2] =
        [("blk.0.attn_v.weight", 4, &[4.0, 2.0]), ("blk.0.ffn_up.weight", 0, &[3.0])];

    #[test]
    fn sums_are_divided_by_the_calls() {
        let (file, means) = parse(&file(&ENTRIES, Some((12, "calibration.txt")))).unwrap();
        assert_eq!((file.chunks, file.datasets), (12, vec!["calibration.txt".to_owned()]));
        assert_eq!(means["blk.0.attn_v.weight"], [1.0, 0.5]);
        assert_eq!(means["blk.0.ffn_up.weight"], [3.0]);
    }

    #[test]
    fn the_tail_may_be_missing() {
        let (file, means) = parse(&file(&ENTRIES, None)).unwrap();
        assert_eq!((file.chunks, file.datasets.len(), means.len()), (0, 0, 2));
    }

    #[test]
    fn damage_is_refused_before_memory_is_taken() {
        let whole = file(&ENTRIES, None);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} bytes");
        }
        for lie in [i32::MAX, -1] {
            for at in [0, 4, whole.len() - 8] {
                let mut bytes = whole.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                assert!(parse(&bytes).is_err(), "{lie} at {at}");
            }
        }
    }
}
