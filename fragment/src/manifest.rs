//! `manifest.json`: which bytes of a file are in which piece.
//!
//! A manifest may come from anybody, so all of it is checked before a piece is opened: after
//! [`Manifest::parse`] the pieces cover the file without gap or overlap, every tensor is inside its
//! pieces, and file names stay inside the folder.

use std::collections::{HashMap, HashSet};

use checkpoint::hash::Digests;
use gguf::TensorType;
use serde::{Deserialize, Serialize};

use crate::ManifestError;

/// The value of `format` in every manifest.
pub const FORMAT: &str = "pocketgpt-fragments";
/// The only version that is written and read.
pub const VERSION: u32 = 1;
/// Name of the manifest in a folder that holds one file's pieces.
pub const MANIFEST_NAME: &str = "manifest.json";

/// Largest manifest that is read, here and by the web chat: 46,000 pieces of a 675B model take
/// about 20 MiB.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Most pieces of one file, and most tensors.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Largest piece: each is held in memory as a whole while it is hashed.
pub const MAX_FRAGMENT_BYTES: u64 = 1 << 30;
/// Browsers read JSON numbers as doubles, which count exactly up to here.
const MAX_FILE_BYTES: u64 = (1 << 53) - 1;

/// The pieces of one GGUF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// The file that the pieces form.
    pub file: WholeFile,
    /// In file order: joining is concatenation.
    pub fragments: Vec<Fragment>,
    /// In file order.
    pub tensors: Vec<Tensor>,
}

/// The file that was split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WholeFile {
    /// Its name, without any folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// BLAKE3 as 64 lower-case hexadecimal digits.
    pub blake3: String,
}

/// One piece: a byte range of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Its index in the list, from 0.
    pub id: usize,
    /// `<blake3>.dat`. Equal pieces, of one file or of several, share it.
    pub file: String,
    /// Bytes from the start of the whole file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits: what browsers verify.
    pub sha256: String,
    /// BLAKE3 as 64 lower-case hexadecimal digits: what peers verify.
    pub blake3: String,
}

impl Fragment {
    /// First byte after this piece, in the whole file.
    pub fn end(&self) -> u64 {
        self.offset + self.size
    }

    /// Size and hashes.
    pub fn digests(&self) -> Digests {
        let Fragment { size, sha256, blake3, .. } = self.clone();
        Digests { size, sha256, blake3 }
    }
}

/// How a layer uses a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorKind {
    /// Multiplied with: matrices, embeddings, the scales of norms.
    Weight,
    /// Added.
    Bias,
}

impl TensorKind {
    /// The kind, from the tensor's name in llama.cpp: `blk.0.attn_qkv.bias` is a bias.
    pub fn of(name: &str) -> Self {
        if name.ends_with(".bias") { TensorKind::Bias } else { TensorKind::Weight }
    }
}

/// The position of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// As in the GGUF.
    pub tensor_name: String,
    /// How its layer uses it.
    pub tensor_type: TensorKind,
    /// Fastest dimension first, as GGUF stores it.
    pub shape: Vec<u64>,
    /// Number format, by ggml's name.
    #[serde(with = "dtype")]
    pub dtype: TensorType,
    /// Its parts in order. Padding after the last one is in the same piece and is not counted.
    pub shards: Vec<Shard>,
}

/// The part of a tensor in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// [`Fragment::id`].
    pub fragment_id: usize,
    /// Index among the tensor's shards, from 0.
    pub shard_index: usize,
    /// Number of the tensor's shards.
    pub total_shards: usize,
    /// Bytes from the start of the piece.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Format and version only: read first, so that the error for a newer manifest says that it is
/// newer.
#[derive(Deserialize)]
struct FormatVersion {
    format: String,
    version: u32,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// One [`ManifestError`] variant for each rule that a manifest can break.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { limit: MAX_MANIFEST_BYTES });
        }
        let found: FormatVersion = serde_json::from_slice(text)?;
        if found.format != FORMAT {
            return Err(ManifestError::WrongFormat { found: found.format });
        }
        if found.version != VERSION {
            return Err(ManifestError::WrongVersion { found: found.version });
        }
        let manifest: Manifest = serde_json::from_slice(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `manifest.json`. The same manifest always gives the same bytes.
    ///
    /// # Errors
    /// When [`Manifest::parse`] would refuse this manifest.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        self.check()?;
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Position of a tensor's first byte in the whole file.
    pub fn tensor_start(&self, tensor: &Tensor) -> Option<u64> {
        let first = tensor.shards.first()?;
        Some(self.fragments.get(first.fragment_id)?.offset + first.offset)
    }

    /// Bytes of the header and metadata: everything before the first tensor.
    pub fn header_size(&self) -> u64 {
        let first = self.tensors.first().and_then(|tensor| self.tensor_start(tensor));
        first.unwrap_or(self.file.size)
    }

    /// The pieces that contain bytes of `start..end` of the whole file.
    pub fn covering(&self, start: u64, end: u64) -> &[Fragment] {
        let first = self.fragments.partition_point(|fragment| fragment.end() <= start);
        let last = self.fragments.partition_point(|fragment| fragment.offset < end);
        &self.fragments[first.min(last)..last]
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_name(&self.file.name)?;
        check_digest("the file", "sha256", &self.file.sha256)?;
        check_digest("the file", "blake3", &self.file.blake3)?;
        if self.file.size == 0 || self.file.size > MAX_FILE_BYTES {
            return Err(ManifestError::FileSize { size: self.file.size, limit: MAX_FILE_BYTES });
        }
        check_count("fragments", self.fragments.len())?;
        check_count("tensors", self.tensors.len())?;
        self.check_fragments()?;
        self.check_tensors()
    }

    fn check_fragments(&self) -> Result<(), ManifestError> {
        let mut files: HashMap<&str, &Fragment> = HashMap::with_capacity(self.fragments.len());
        let mut end = 0_u64;
        for (index, fragment) in self.fragments.iter().enumerate() {
            let id = fragment.id;
            if id != index {
                return Err(ManifestError::FragmentId { expected: index, found: id });
            }
            let whose = format!("fragment {id}");
            check_digest(&whose, "sha256", &fragment.sha256)?;
            check_digest(&whose, "blake3", &fragment.blake3)?;
            if fragment.file != piece_name(&fragment.blake3) {
                return Err(ManifestError::FragmentFile {
                    id,
                    found: fragment.file.clone(),
                    expected: piece_name(&fragment.blake3),
                });
            }
            if fragment.size == 0 || fragment.size > MAX_FRAGMENT_BYTES {
                return Err(ManifestError::FragmentSize {
                    id,
                    size: fragment.size,
                    limit: MAX_FRAGMENT_BYTES,
                });
            }
            if fragment.offset != end {
                return Err(ManifestError::NotTiled { id, offset: fragment.offset, expected: end });
            }
            let twin = files.insert(&fragment.file, fragment);
            let same =
                |twin: &Fragment| (twin.size, &twin.sha256) == (fragment.size, &fragment.sha256);
            if !twin.is_none_or(same) {
                return Err(ManifestError::SharedFile { id });
            }
            // No overflow: at most 2^20 pieces of at most 2^30 bytes come before.
            end += fragment.size;
        }
        if end != self.file.size {
            return Err(ManifestError::WrongTotal { covered: end, size: self.file.size });
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), ManifestError> {
        let mut names = HashSet::with_capacity(self.tensors.len());
        let mut end = 0_u64;
        for tensor in &self.tensors {
            let name = || tensor.tensor_name.clone();
            if tensor.tensor_name.contains(char::is_control) {
                return Err(ManifestError::TensorName { name: name() });
            }
            if !names.insert(tensor.tensor_name.as_str()) {
                return Err(ManifestError::DuplicateTensor { name: name() });
            }
            let kind = TensorKind::of(&tensor.tensor_name);
            if tensor.tensor_type != kind {
                return Err(ManifestError::TensorKind { name: name(), expected: kind });
            }
            let size =
                tensor_size(tensor).ok_or_else(|| ManifestError::TensorShape { name: name() })?;
            let range = self.tensor_range(tensor)?;
            let length = range.end - range.start;
            if length != size {
                return Err(ManifestError::TensorSize { name: name(), expected: size, length });
            }
            if range.start < end {
                return Err(ManifestError::TensorOverlap { name: name() });
            }
            end = range.end;
        }
        Ok(())
    }

    /// The bytes of the whole file that a tensor's shards cover, which must follow one another.
    fn tensor_range(&self, tensor: &Tensor) -> Result<std::ops::Range<u64>, ManifestError> {
        let refuse = |shard: usize, problem: &'static str| ManifestError::Shard {
            name: tensor.tensor_name.clone(),
            shard,
            problem,
        };
        let mut range: Option<std::ops::Range<u64>> = None;
        for (index, shard) in tensor.shards.iter().enumerate() {
            if shard.shard_index != index || shard.total_shards != tensor.shards.len() {
                return Err(refuse(index, "shard_index and total_shards do not count the list"));
            }
            let fragment = self
                .fragments
                .get(shard.fragment_id)
                .ok_or_else(|| refuse(index, "fragment_id names no fragment"))?;
            let inside = shard.offset.checked_add(shard.length);
            if shard.length == 0 || inside.is_none_or(|end| end > fragment.size) {
                return Err(refuse(index, "offset and length lie outside of the fragment"));
            }
            let start = fragment.offset + shard.offset;
            match &mut range {
                None => range = Some(start..start + shard.length),
                Some(range) if range.end == start => range.end += shard.length,
                Some(_) => return Err(refuse(index, "it does not follow the shard before it")),
            }
        }
        range.ok_or_else(|| refuse(0, "there must be at least one shard"))
    }
}

/// Name of the piece with this BLAKE3 hash.
pub fn piece_name(blake3: &str) -> String {
    format!("{blake3}.dat")
}

fn tensor_size(tensor: &Tensor) -> Option<u64> {
    let named = !tensor.tensor_name.is_empty() && tensor.tensor_name.len() <= 63;
    let dimensions = (1..=4).contains(&tensor.shape.len()) && !tensor.shape.contains(&0);
    if named && dimensions { tensor.dtype.size_of(&tensor.shape) } else { None }
}

fn check_count(what: &'static str, count: usize) -> Result<(), ManifestError> {
    if count > MAX_ENTRIES {
        return Err(ManifestError::TooMany { what, count, limit: MAX_ENTRIES });
    }
    Ok(())
}

fn check_digest(whose: &str, which: &'static str, text: &str) -> Result<(), ManifestError> {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 64 && text.bytes().all(hex) {
        return Ok(());
    }
    Err(ManifestError::Digest { whose: whose.to_owned(), which, found: text.to_owned() })
}

/// Whether the name belongs to a device on Windows, whatever follows its first dot: a file cannot
/// have it there.
pub fn is_device_name(name: &str) -> bool {
    const WORDS: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let numbered = stem.get(..3).is_some_and(|port| {
        (port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT"))
            && matches!(&stem[3..], "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9")
    });
    numbered || WORDS.iter().any(|word| stem.eq_ignore_ascii_case(word))
}

/// A plain file name on every system: joining may use it as its default.
fn check_name(name: &str) -> Result<(), ManifestError> {
    let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    let plain = !name.is_empty() && name.len() <= 255 && !name.contains(forbidden);
    if plain && name != "." && name != ".." && !is_device_name(name) {
        return Ok(());
    }
    Err(ManifestError::FileName { name: name.to_owned() })
}

/// [`TensorType`] as ggml's name.
mod dtype {
    use gguf::TensorType;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(dtype: &TensorType, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(dtype.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TensorType, D::Error> {
        let name = String::deserialize(from)?;
        let known: TensorType = name.parse().map_err(D::Error::custom)?;
        if known.name() == name {
            Ok(known)
        } else {
            Err(D::Error::custom(format!("unknown dtype {name}: expected {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{check_name, is_device_name};

    #[test]
    fn names_of_devices_are_refused() {
        for name in ["CON", "nul", "Aux.gguf", "NUL.tar.gz", "com1", "LPT9.dat", "con .x"] {
            assert!(is_device_name(name), "{name}");
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["console", "null.gguf", "com", "COM10", "lpt0", "model-nul", "cön"] {
            assert!(!is_device_name(name), "{name}");
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
