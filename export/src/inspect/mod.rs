//! Shows the contents of a GGUF of any program.

mod shown;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragment::FragmentFolder;
use gguf::{
    ByteOrder, GgufFile, RawHeader, RawModel, RawPart, RawTensor, StoredFormat, TensorSource,
};
use serde::{Serialize, Serializer};

pub use shown::Shown;

/// Arguments of `export inspect`.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// A GGUF file of any program (for a model in several parts, any part), a folder of fragments,
    /// or its address
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Also list the tensors in the table [default: off; --json always does]
    #[arg(long)]
    pub tensors: bool,
}

/// The contents of a GGUF. In JSON, strings are complete and arrays show only their first elements.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The files, in order: one, or all existing parts of a split model.
    pub files: Vec<FileSummary>,
    /// Version of the format.
    pub version: u32,
    /// `little` or `big`.
    pub byte_order: &'static str,
    /// `general.architecture`, if the file says it.
    pub architecture: Option<String>,
    /// Keys in file order.
    pub metadata: Vec<Key>,
    /// Tensors in file order.
    pub tensors: Vec<Tensor>,
    /// The totals of each number format, the largest first.
    pub formats: Vec<FormatSummary>,
    /// Weights in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors whose format is known, without padding.
    pub tensor_bytes: u64,
    /// Bits per weight over all tensors, if every format is known.
    pub bits_per_weight: Option<f64>,
    /// Why the other commands of this program refuse the file; `None` if they accept it.
    pub refusal: Option<String>,
    /// Problems of the files: missing parts, missing bytes.
    pub problems: Vec<String>,
    #[serde(skip)]
    list_tensors: bool,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Tensors in it.
    pub tensors: usize,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// Its name.
    pub key: String,
    /// The type of the value: `u32`, `string`, `array`.
    pub r#type: &'static str,
    /// Elements, if the value is an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// The value.
    pub value: Shown,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Fastest dimension first, as the file has it.
    pub shape: Vec<u64>,
    /// The number format.
    #[serde(serialize_with = "as_text")]
    pub format: StoredFormat,
    /// Bytes, if the format is known.
    pub size: Option<u64>,
    /// Bytes from the start of its file.
    pub at: u64,
    /// Index of its file among the files, counted from 0.
    pub file: usize,
}

/// All tensors of one number format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FormatSummary {
    /// The number format.
    #[serde(serialize_with = "as_text")]
    pub format: StoredFormat,
    /// Whether this program supports it in computations.
    pub computed: bool,
    /// Tensors of this format.
    pub tensors: usize,
    /// Weights in them.
    pub parameters: u64,
    /// Weights in one block, if the format is known.
    pub block_weights: Option<u64>,
    /// Bytes of one block, if the format is known.
    pub block_bytes: Option<u64>,
    /// Bytes of the tensors, as far as known.
    pub bytes: u64,
}

fn as_text<S: Serializer>(format: &StoredFormat, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(format)
}

/// Reads the header of a GGUF, without any weights.
///
/// # Errors
/// When the file cannot be read or is not a GGUF, or its header is damaged.
pub fn inspect(args: &InspectArgs) -> Result<Inspection> {
    let in_pieces = fragment::is_address(&args.file) || fragment::is_fragments(&args.file);
    let (model, refusal) = match in_pieces {
        true => read_pieces(&args.file)?,
        false => {
            let model = RawModel::open(&args.file)?;
            let refusal = refusal(&model);
            (model, refusal)
        }
    };
    let first = &model.parts.first().context("the model has no part")?.header;
    let places: BTreeMap<&Path, usize> =
        model.parts.iter().map(|part| part.path.as_path()).zip(0..).collect();
    let tensors: Vec<Tensor> = model
        .tensors()
        .map(|(part, tensor)| describe(part, tensor, places[part.path.as_path()]))
        .collect();
    let formats = formats(&tensors);
    let parameters = sum(formats.iter().map(|format| format.parameters));
    let tensor_bytes = sum(formats.iter().map(|format| format.bytes));
    let all_known = tensors.iter().all(|tensor| tensor.size.is_some());
    Ok(Inspection {
        files: model.parts.iter().map(file_summary).collect(),
        version: first.version,
        byte_order: match first.byte_order {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        },
        architecture: first.metadata.string("general.architecture").ok().map(str::to_owned),
        metadata: first.metadata.iter().map(|(key, value)| Key::new(key, value)).collect(),
        bits_per_weight: (all_known && parameters > 0)
            .then(|| tensor_bytes as f64 * 8.0 / parameters as f64),
        tensors,
        formats,
        parameters,
        tensor_bytes,
        refusal,
        problems: model.problems,
        list_tensors: args.tensors,
    })
}

/// The header in the pieces of a folder or at an address. Its reader is the strict one, so what is
/// left to object to is the architecture.
fn read_pieces(path: &Path) -> Result<(RawModel, Option<String>)> {
    let source = FragmentFolder::open(path)?;
    let header = RawHeader::parse(&source.layout().header(source.metadata())?)
        .with_context(|| path.display().to_string())?;
    let file_size = source.manifest().file.size;
    let part = RawPart { path: path.to_owned(), file_size, header };
    let refusal = checkpoint::gguf_config(&source).err();
    Ok((
        RawModel { parts: vec![part], problems: Vec::new() },
        refusal.map(|error| cli::one_line(&error.into())),
    ))
}

fn describe(part: &RawPart, tensor: &RawTensor, file: usize) -> Tensor {
    Tensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        format: tensor.format,
        size: tensor.size,
        at: part.header.data_start.saturating_add(tensor.offset),
        file,
    }
}

fn file_summary(part: &RawPart) -> FileSummary {
    FileSummary {
        path: part.path.clone(),
        size: part.file_size,
        tensors: part.header.tensors.len(),
    }
}

fn formats(tensors: &[Tensor]) -> Vec<FormatSummary> {
    let mut by_format: BTreeMap<StoredFormat, FormatSummary> = BTreeMap::new();
    for tensor in tensors {
        let (block_weights, block_bytes) = tensor.format.block().unzip();
        let summary = by_format.entry(tensor.format).or_insert(FormatSummary {
            format: tensor.format,
            computed: gguf::TensorType::from_id(tensor.format.0).is_some(),
            tensors: 0,
            parameters: 0,
            block_weights,
            block_bytes,
            bytes: 0,
        });
        summary.tensors += 1;
        summary.parameters = summary.parameters.saturating_add(elements(tensor));
        summary.bytes = summary.bytes.saturating_add(tensor.size.unwrap_or(0));
    }
    let mut formats: Vec<FormatSummary> = by_format.into_values().collect();
    formats.sort_by_key(|format| std::cmp::Reverse((format.bytes, format.parameters)));
    formats
}

/// Weights of a tensor; the product of a damaged shape may exceed 64 bits.
fn elements(tensor: &Tensor) -> u64 {
    tensor.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim))
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// The first objection to the model by the strict reader, then by the table of architectures.
fn refusal(model: &RawModel) -> Option<String> {
    let [part] = model.parts.as_slice() else {
        return Some("it is in several parts; join them with llama-gguf-split --merge".to_owned());
    };
    let usable = GgufFile::open(&part.path)
        .map_err(anyhow::Error::new)
        .and_then(|file| Ok(checkpoint::gguf_config(&file)?));
    usable.err().map(|error| cli::one_line(&error))
}
