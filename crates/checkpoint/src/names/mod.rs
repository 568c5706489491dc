//! The three names of every tensor (Hugging Face's, Burn's and GGUF's), and its layout in each.
//!
//! There is one table per family. All conversions of weights iterate over the table, so a tensor
//! cannot be forgotten in one place and renamed in another. The table also defines how to arrange
//! the values, so that other code does not depend on the family.

mod experts;
mod gpt2;
mod gptneox;
mod llama;
mod rows;

use config::{Architecture, ModelConfig};
use gguf::TensorType;

use crate::transpose;

pub(crate) use experts::{Part, expert, router};
pub use rows::RowOrder;

/// The orientation of a matrix in the three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// A vector, or an embedding whose rows are tokens or positions: the same in all forms.
    Same,
    /// `[in, out]` in Hugging Face (Conv1D) and Burn (Linear); rows `[out, in]` in GGUF.
    InputFirst,
    /// Rows `[out, in]` in Hugging Face (Linear) and GGUF; `[in, out]` in Burn.
    OutputFirst,
}

/// The purpose of a tensor, which determines the precision it is stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorUse {
    /// A matrix of a product, or the token embedding: any tensor type.
    Matrix,
    /// Position embedding: F32 in every GGUF.
    Position,
    /// Weight or bias of a normalisation, or the bias of a matrix: F32 in every GGUF.
    Vector,
    /// The matrix that chooses among experts: F32 in every GGUF.
    Router,
}

impl TensorUse {
    /// The type of a tensor in a GGUF whose matrices are of type `matrices`.
    fn stored_type(self, matrices: TensorType) -> TensorType {
        match self {
            TensorUse::Matrix => matrices,
            TensorUse::Position | TensorUse::Vector | TensorUse::Router => TensorType::F32,
        }
    }
}

/// One of the experts of a layer, whose matrices are one after the other in a GGUF's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expert {
    /// Its index, counted from 0.
    pub index: usize,
    /// Experts in the layer.
    pub of: usize,
}

/// The source of a tensor's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A parameter of the model.
    Model,
    /// Zeros, in every file: the model does not have this parameter, but readers of the file format
    /// expect the tensor.
    Zeros,
    /// A copy of the tensor of this name in Hugging Face's files, which a GGUF stores a second
    /// time. Hugging Face's files omit it.
    Repeat(String),
    /// These values, which follow from the settings, in a GGUF. Hugging Face's files omit it.
    Settings(Vec<f32>),
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorName {
    /// Name in `model.safetensors`, for example `transformer.h.0.attn.c_attn.weight`.
    pub hugging_face: String,
    /// Path of the parameter in the Burn module, for example `blocks.0.attn.c_attn.weight`.
    pub burn: String,
    /// Name in a GGUF, for example `blk.0.attn_qkv.weight`.
    pub gguf: String,
    /// Shape in `model.safetensors`, slowest dimension first.
    pub shape: Vec<usize>,
    /// Its orientation in each form.
    pub orientation: Orientation,
    /// The order of its output rows in each form.
    pub rows: RowOrder,
    /// The expert of this matrix: one of several rows of the table with one tensor in a GGUF.
    pub expert: Option<Expert>,
    /// Its purpose.
    pub role: TensorUse,
    /// The source of its values.
    pub source: Source,
    /// The number that is added to Hugging Face's and Burn's values to get those of a GGUF: 1 if a
    /// norm's weight has an offset of 1 (`conversion/gemma.py` of llama.cpp).
    pub offset: f32,
}

impl TensorName {
    /// Whether the model has this parameter.
    pub fn in_model(&self) -> bool {
        self.source == Source::Model
    }

    /// Whether Hugging Face's files hold it.
    pub fn in_hugging_face(&self) -> bool {
        matches!(self.source, Source::Model | Source::Zeros)
    }

    /// The other tensor, by Hugging Face's name, whose values this one repeats in a GGUF.
    pub fn repeats(&self) -> Option<&str> {
        match &self.source {
            Source::Repeat(name) => Some(name),
            Source::Model | Source::Zeros | Source::Settings(_) => None,
        }
    }

    /// The values of a GGUF as those of the Burn module, which are in the same order of rows.
    pub fn burn_from_gguf(&self, mut values: Vec<f32>) -> Vec<f32> {
        if self.offset != 0.0 {
            values.iter_mut().for_each(|value| *value -= self.offset);
        }
        match (self.orientation, self.gguf_shape().as_slice()) {
            (Orientation::InputFirst | Orientation::OutputFirst, &[input, output]) => {
                transpose(&values, output as usize, input as usize)
            }
            _ => values,
        }
    }

    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Shape in the Burn module, slowest dimension first.
    pub fn burn_shape(&self) -> Vec<usize> {
        match self.orientation {
            Orientation::OutputFirst => self.shape.iter().rev().copied().collect(),
            Orientation::Same | Orientation::InputFirst => self.shape.clone(),
        }
    }

    /// Shape of the tensor in a GGUF, fastest dimension first; with all experts.
    pub fn gguf_shape(&self) -> Vec<u64> {
        let shape = self.shape.iter().map(|&n| n as u64);
        let mut shape: Vec<u64> = match self.orientation {
            Orientation::InputFirst => shape.collect(),
            Orientation::Same | Orientation::OutputFirst => shape.rev().collect(),
        };
        shape.extend(self.expert.map(|expert| expert.of as u64));
        shape
    }

    /// Whether a tensor of a GGUF begins with this row of the table.
    pub fn begins_gguf_tensor(&self) -> bool {
        self.expert.is_none_or(|expert| expert.index == 0)
    }

    /// Converts values from Hugging Face's layout to that of the Burn module. Both are row-major.
    ///
    /// # Panics
    /// If `values` does not hold [`TensorName::elements`] weights.
    pub fn to_burn(&self, mut values: Vec<f32>) -> Vec<f32> {
        assert_eq!(values.len(), self.elements(), "{}", self.hugging_face);
        if !self.rows.is_same() {
            values = self.rows.arrange(&values, self.row_width());
        }
        match (self.orientation, self.shape.as_slice()) {
            (Orientation::OutputFirst, &[rows, columns]) => transpose(&values, rows, columns),
            _ => values,
        }
    }

    /// The inverse of [`TensorName::to_burn`]; also for other values in the shape of the parameter,
    /// such as an optimizer's moments.
    ///
    /// # Panics
    /// If `values` does not hold [`TensorName::elements`] weights.
    pub fn from_burn(&self, mut values: Vec<f32>) -> Vec<f32> {
        assert_eq!(values.len(), self.elements(), "{}", self.burn);
        if let (Orientation::OutputFirst, &[rows, columns]) =
            (self.orientation, self.shape.as_slice())
        {
            values = transpose(&values, columns, rows);
        }
        match self.rows.is_same() {
            true => values,
            false => self.rows.restore(&values, self.row_width()),
        }
    }

    /// Number of values of one output row. Rows are only reordered if they are stored one after the
    /// other: in vectors, and in matrices `[out, in]`.
    pub(crate) fn row_width(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// Every tensor of a model, in the order of our GGUF files.
pub fn tensors(config: &ModelConfig) -> Vec<TensorName> {
    match config.architecture {
        Architecture::Gpt2 => gpt2::table(config),
        Architecture::GptNeox => gptneox::table(config),
        _ => llama::table(config),
    }
}

/// Every tensor of a model's GGUF, by the first of its rows, in order.
pub fn gguf_tensors(config: &ModelConfig) -> impl Iterator<Item = TensorName> {
    tensors(config).into_iter().filter(TensorName::begins_gguf_tensor)
}

/// Name, shape (fastest dimension first) and type of every tensor of a model's GGUF, in order:
/// matrices in the type `matrices`, all others in F32.
pub fn stored_tensors(
    config: &ModelConfig,
    matrices: TensorType,
) -> impl Iterator<Item = (String, Vec<u64>, TensorType)> {
    gguf_tensors(config).map(move |tensor| {
        let stored_type = tensor.role.stored_type(matrices);
        (tensor.gguf.clone(), tensor.gguf_shape(), stored_type)
    })
}

/// Buffers that Hugging Face files hold beside the weights: causal masks, which follow from the
/// context length, and the wavelengths of rotary positions, which follow from their base.
pub fn is_ignored(config: &ModelConfig, hugging_face: &str) -> bool {
    let (prefix, buffers): (&str, &[&str]) = match config.architecture {
        Architecture::Gpt2 => ("transformer.h.", &[".attn.bias", ".attn.masked_bias"]),
        Architecture::GptNeox => {
            ("gpt_neox.", &[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"])
        }
        _ => ("model.", &[".rotary_emb.inv_freq"]),
    };
    // The dot of the prefix may be the first character of the buffer's name.
    let inner = hugging_face.get(prefix.len() - 1..).unwrap_or_default();
    hugging_face.starts_with(prefix) && buffers.iter().any(|end| inner.ends_with(end))
}

/// The three names of a layer, which the names of its parameters are appended to.
struct Stem {
    hugging_face: String,
    burn: String,
    gguf: String,
}

impl Stem {
    fn new(
        hugging_face: impl Into<String>,
        burn: impl Into<String>,
        gguf: impl Into<String>,
    ) -> Self {
        Stem { hugging_face: hugging_face.into(), burn: burn.into(), gguf: gguf.into() }
    }

    /// A parameter with the same layout in all forms; `kind` is its name in Hugging Face and GGUF.
    fn row(&self, kind: &str, burn_kind: &str, shape: &[usize], role: TensorUse) -> TensorName {
        TensorName {
            hugging_face: format!("{}.{kind}", self.hugging_face),
            burn: format!("{}.{burn_kind}", self.burn),
            gguf: format!("{}.{kind}", self.gguf),
            shape: shape.to_vec(),
            orientation: Orientation::Same,
            rows: RowOrder::SAME,
            expert: None,
            role,
            source: Source::Model,
            offset: 0.0,
        }
    }

    fn embedding(&self, shape: [usize; 2], role: TensorUse) -> TensorName {
        self.row("weight", "weight", &shape, role)
    }

    /// The matrix of a product; `shape` is Hugging Face's.
    fn matrix(&self, shape: [usize; 2], orientation: Orientation, rows: RowOrder) -> TensorName {
        let row = self.row("weight", "weight", &shape, TensorUse::Matrix);
        TensorName { orientation, rows, ..row }
    }

    /// `[V, C]`.
    fn head(&self, shape: [usize; 2]) -> TensorName {
        self.matrix(shape, Orientation::OutputFirst, RowOrder::SAME)
    }

    fn bias(&self, width: usize, rows: RowOrder, in_model: bool) -> TensorName {
        let source = if in_model { Source::Model } else { Source::Zeros };
        TensorName { rows, source, ..self.row("bias", "bias", &[width], TensorUse::Vector) }
    }

    /// Burn names the parameters of a normalisation `gamma` and `beta`.
    fn rms_norm(&self, width: usize) -> TensorName {
        self.row("weight", "gamma", &[width], TensorUse::Vector)
    }

    fn layer_norm(&self, width: usize) -> [TensorName; 2] {
        [self.rms_norm(width), self.row("bias", "beta", &[width], TensorUse::Vector)]
    }
}

#[cfg(test)]
mod tests;
