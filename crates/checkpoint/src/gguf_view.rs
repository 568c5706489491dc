//! A view of a checkpoint as the GGUF that it would become.

use std::borrow::Cow;
use std::path::Path;

use gguf::{GgufError, GgufParts, Layout, Metadata, TensorInfo, TensorSource, TensorType};

use crate::names::{self, Orientation, Source, TensorName};
use crate::{Checkpoint, CheckpointError, GgufForm, Vocabulary, convert, gguf_keys, locate};

/// The tensors and keys of a checkpoint in GGUF's names, order and orientation.
///
/// The view does not write anything and holds one tensor at a time in memory, converted on request.
/// Export copies this view into a file; quantization reads it directly.
#[derive(Debug)]
pub struct GgufView {
    checkpoint: Checkpoint,
    metadata: Metadata,
    form: Option<GgufForm>,
    layout: Layout,
    /// In the order of the layout's tensors; an expert's matrices follow each other.
    table: Vec<TensorName>,
    /// For each tensor, the first of its rows in the table.
    first_rows: Vec<usize>,
}

impl GgufView {
    /// `tensor_type` is the type of the matrices (F32, F16 or BF16); norms, biases and positions
    /// are F32 in every file. `name` becomes `general.name`. The tokenizer is the folder's.
    ///
    /// # Errors
    /// When the tokenizer is missing or damaged, or `tensor_type` is a quantized one.
    pub fn new(
        checkpoint: Checkpoint,
        tensor_type: TensorType,
        name: &str,
    ) -> Result<Self, CheckpointError> {
        let vocabulary = Vocabulary::of_folder(checkpoint.dir(), &checkpoint.tokenizer_json()?)?;
        Self::with_vocabulary(checkpoint, Some(vocabulary), tensor_type, name)
    }

    /// [`GgufView::new`] with a tokenizer from elsewhere, or without one: the file then holds only
    /// the number of tokens.
    ///
    /// # Errors
    /// When `tensor_type` is a quantized one.
    pub fn with_vocabulary(
        checkpoint: Checkpoint,
        vocabulary: Option<Vocabulary>,
        tensor_type: TensorType,
        name: &str,
    ) -> Result<Self, CheckpointError> {
        if tensor_type.is_quantized() {
            return Err(CheckpointError::Setting {
                place: checkpoint.dir().to_owned(),
                key: "tensor type".to_owned(),
                value: tensor_type.to_string(),
                expected: "F32, F16 or BF16; for smaller files use quantize".to_owned(),
            });
        }
        let config = checkpoint.config();
        let form = vocabulary.as_ref().map(|known| known.gguf_form(config.vocab_size));
        let metadata = gguf_keys::metadata(config, vocabulary, tensor_type, name);
        let table = names::tensors(config);
        let begins = |&row: &usize| table[row].begins_gguf_tensor();
        let first_rows: Vec<usize> = (0..table.len()).filter(begins).collect();
        let stored: Vec<_> = names::stored_tensors(config, tensor_type).collect();
        let layout = Layout::plan(&metadata, &stored)?;
        Ok(GgufView { checkpoint, metadata, form, layout, table, first_rows })
    }

    /// The checkpoint of the view.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How completely the keys describe the tokenizer; `None` without a tokenizer.
    pub fn gguf_form(&self) -> Option<&GgufForm> {
        self.form.as_ref()
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Matrix `index` of a tensor: the whole tensor, or one expert's part of it.
    fn load(&self, tensor: &TensorInfo, index: usize) -> Result<Vec<u8>, CheckpointError> {
        let row = &self.table[self.first_rows[self.layout.index_of(tensor)?] + index];
        let weights = self.checkpoint.weights();
        let name = match &row.source {
            Source::Settings(values) => {
                return convert::encoded(values, &row.gguf, tensor.tensor_type);
            }
            Source::Zeros if !weights.contains(&row.hugging_face) => {
                return Ok(vec![0; row.elements() * tensor.tensor_type.block_bytes()]);
            }
            Source::Repeat(name) => name,
            Source::Model | Source::Zeros => &row.hugging_face,
        };
        if row.offset != 0.0 {
            let values: Vec<f32> =
                weights.read_f32(name)?.into_iter().map(|value| value + row.offset).collect();
            return convert::encoded(&values, name, tensor.tensor_type);
        }
        match (row.orientation, row.shape.as_slice()) {
            (Orientation::InputFirst, &[rows, columns]) => {
                convert::transposed(weights, name, [rows, columns], tensor.tensor_type)
            }
            _ if !row.rows.is_same() => {
                convert::reordered(weights, name, (row.rows, row.row_width()), tensor.tensor_type)
            }
            _ => convert::straight(weights, name, tensor.tensor_type),
        }
    }
}

/// Converts an error of a checkpoint into one of the requested tensor.
fn in_tensor(tensor: &TensorInfo, error: CheckpointError) -> GgufError {
    match error {
        CheckpointError::Gguf(error) => error,
        error => GgufError::Source { name: tensor.name.clone(), source: Box::new(error) },
    }
}

impl TensorSource for GgufView {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.layout.tensors
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.layout.tensor(name)
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        let mut all = self.load(tensor, 0).map_err(|error| in_tensor(tensor, error))?;
        all.reserve_exact(tensor.size as usize - all.len());
        for index in 1..tensor.matrices() {
            all.extend(self.load(tensor, index).map_err(|error| in_tensor(tensor, error))?);
        }
        Ok(Cow::Owned(all))
    }

    fn read_matrix(&self, tensor: &TensorInfo, index: usize) -> Result<Cow<'_, [u8]>, GgufError> {
        gguf::matrix_range(tensor, index)?;
        self.load(tensor, index).map(Cow::Owned).map_err(|error| in_tensor(tensor, error))
    }
}

/// Opens a GGUF file (with it the other parts of its model), a checkpoint folder or a run folder
/// (its newest checkpoint) for reading tensors. A checkpoint is read as an F32 GGUF.
///
/// # Errors
/// When there is neither at `path`, or the file or folder is damaged.
pub fn open_source(path: &Path) -> Result<Box<dyn TensorSource>, CheckpointError> {
    open(path, GgufView::new)
}

/// [`open_source`] for callers that already have a tokenizer: that of a folder is not read, and the
/// keys do not describe one.
///
/// # Errors
/// As for [`open_source`].
pub fn open_weights(path: &Path) -> Result<Box<dyn TensorSource>, CheckpointError> {
    open(path, |checkpoint, tensor_type, name| {
        GgufView::with_vocabulary(checkpoint, None, tensor_type, name)
    })
}

fn open(
    path: &Path,
    view: impl Fn(Checkpoint, TensorType, &str) -> Result<GgufView, CheckpointError>,
) -> Result<Box<dyn TensorSource>, CheckpointError> {
    if !path.is_dir() {
        return Ok(Box::new(GgufParts::open(path)?));
    }
    let checkpoint = Checkpoint::open(&locate(path)?)?;
    let name = checkpoint.default_name();
    Ok(Box::new(view(checkpoint, TensorType::F32, &name)?))
}
