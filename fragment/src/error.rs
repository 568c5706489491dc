//! Everything that can be wrong with a manifest or with the pieces it lists.

use std::path::PathBuf;

use crate::TensorKind;

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Malformed JSON, a field that is missing, unknown, doubled or of another type.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// More bytes than any real manifest has.
    #[error("the manifest is larger than {limit} bytes")]
    TooLarge {
        /// Most bytes that are read.
        limit: u64,
    },
    /// Another kind of file.
    #[error("format is {found:?}: expected {:?}", crate::manifest::FORMAT)]
    WrongFormat {
        /// What the file says.
        found: String,
    },
    /// A version that this program does not know.
    #[error(
        "manifest version {found}: this program reads version {}; take a newer one",
        crate::manifest::VERSION
    )]
    WrongVersion {
        /// What the file says.
        found: u32,
    },
    /// More entries than the format allows.
    #[error("{count} {what}: expected at most {limit}")]
    TooMany {
        /// `fragments` or `tensors`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The whole file's name is a path or empty.
    #[error("file name {name:?}: expected a plain name without any folder")]
    FileName {
        /// What the manifest says.
        name: String,
    },
    /// The whole file's size is 0, or larger than the largest integer that JSON keeps exactly.
    #[error("file size {size}: expected 1 to {limit} bytes")]
    FileSize {
        /// What the manifest says.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A hash is not 64 hexadecimal digits.
    #[error("{which} of {whose} is {found:?}: expected 64 lower-case hexadecimal digits")]
    Digest {
        /// The file or a fragment.
        whose: String,
        /// `sha256` or `blake3`.
        which: &'static str,
        /// What the manifest says.
        found: String,
    },
    /// The list of fragments is not in order.
    #[error("fragment {found} stands where fragment {expected} belongs")]
    FragmentId {
        /// Its place in the list.
        expected: usize,
        /// The id it has.
        found: usize,
    },
    /// A piece's name is not its hash, for example because it is a path.
    #[error("fragment {id} has the file {found:?}: expected {expected}")]
    FragmentFile {
        /// The fragment.
        id: usize,
        /// What the manifest says.
        found: String,
        /// The only name it can have.
        expected: String,
    },
    /// Two pieces share a file and contradict each other.
    #[error("fragment {id} has the file of an earlier one, but another size or SHA-256")]
    SharedFile {
        /// The later fragment.
        id: usize,
    },
    /// A piece is empty, or larger than a program should hold in memory.
    #[error("fragment {id} has {size} bytes: expected 1 to {limit}")]
    FragmentSize {
        /// The fragment.
        id: usize,
        /// What the manifest says.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A gap or an overlap between two pieces.
    #[error(
        "fragment {id} starts at byte {offset}: expected {expected}, where the one before it ends"
    )]
    NotTiled {
        /// The fragment.
        id: usize,
        /// Where it says it starts.
        offset: u64,
        /// Where it must start.
        expected: u64,
    },
    /// The pieces together are longer or shorter than the file.
    #[error("the fragments cover {covered} bytes of a file of {size}")]
    WrongTotal {
        /// Bytes of all pieces.
        covered: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A name with characters that control a terminal.
    #[error("tensor {name:?}: expected a name without control characters")]
    TensorName {
        /// What the manifest says.
        name: String,
    },
    /// Two tensors with the same name.
    #[error("tensor {name} is listed twice")]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// `tensor_type` contradicts the name.
    #[error("tensor {name}: expected tensor_type {expected:?}, as its name says")]
    TensorKind {
        /// The tensor.
        name: String,
        /// What the name stands for.
        expected: TensorKind,
    },
    /// A name, shape or dtype that no GGUF can hold.
    #[error(
        "tensor {name}: expected a name of 1 to 63 bytes and 1 to 4 dimensions whose rows are whole blocks of its dtype"
    )]
    TensorShape {
        /// The tensor.
        name: String,
    },
    /// The shards of a tensor have more or fewer bytes than its shape needs.
    #[error("tensor {name}: its shards have {length} bytes, its shape needs {expected}")]
    TensorSize {
        /// The tensor.
        name: String,
        /// Bytes of its shape.
        expected: u64,
        /// Bytes of its shards.
        length: u64,
    },
    /// A tensor starts before the one before it ends.
    #[error("tensor {name} overlaps the tensor before it, or is out of order")]
    TensorOverlap {
        /// The tensor.
        name: String,
    },
    /// A shard that contradicts the rest of the manifest.
    #[error("shard {shard} of tensor {name}: {problem}")]
    Shard {
        /// The tensor.
        name: String,
        /// Place in its list of shards.
        shard: usize,
        /// The rule that it breaks.
        problem: &'static str,
    },
}

/// What is wrong with one piece.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// The file is missing.
    #[error("{} is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A link, a folder or a device: only plain files are opened.
    #[error("{} is no plain file", path.display())]
    NotAFile {
        /// The piece.
        path: PathBuf,
    },
    /// Cut short, or something was appended.
    #[error("{} has {found} bytes: expected {expected}", path.display())]
    WrongSize {
        /// The piece.
        path: PathBuf,
        /// Bytes on disk.
        found: u64,
        /// Bytes by the manifest.
        expected: u64,
    },
    /// Its hash is not the manifest's.
    #[error("{} is damaged: its {which} is {found}, expected {expected}", path.display())]
    Damaged {
        /// The piece.
        path: PathBuf,
        /// `BLAKE3` or `SHA-256`.
        which: &'static str,
        /// Hash of what is there.
        found: String,
        /// Hash by the manifest.
        expected: String,
    },
    /// None of the places that were asked has it as it should be.
    #[error("no source has a sound {file}: {reasons}")]
    NoSource {
        /// Name of the piece.
        file: String,
        /// What each place did.
        reasons: String,
    },
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The piece.
        path: PathBuf,
        /// Its message.
        source: std::io::Error,
    },
}
