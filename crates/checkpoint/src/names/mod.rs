//! The three names of every tensor: Hugging Face's, Burn's and GGUF's, and how it lies in each.
//!
//! One table per family. Everything that moves weights from one form to another walks the table,
//! so a tensor cannot be forgotten in one place and renamed in another; and it asks the table how
//! to arrange the values, so that no other place knows a family by name.

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

/// How the two dimensions of a matrix lie in the three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// A vector, or an embedding whose rows are tokens or positions: the same everywhere.
    Same,
    /// `[in, out]` in Hugging Face (Conv1D) and Burn (Linear); rows `[out, in]` in GGUF.
    InputFirst,
    /// Rows `[out, in]` in Hugging Face (Linear) and GGUF; `[in, out]` in Burn.
    OutputFirst,
}

/// What a tensor is for, which decides how exactly it is stored.
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

/// One of the experts of a layer, whose matrices lie one behind the other in a GGUF's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expert {
    /// Its number, from 0.
    pub index: usize,
    /// Experts in the layer.
    pub of: usize,
}

/// Where the values of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The model: this is one of its parameters.
    Model,
    /// Zeros, in every file: the model has no such parameter, but readers of the file format count
    /// on the tensor.
    Zeros,
    /// The tensor of this name in Hugging Face's files, which a GGUF holds once more. Hugging
    /// Face's files leave it out.
    Repeat(String),
    /// These values, which follow from the settings, in a GGUF. Hugging Face's files leave it out.
    Settings(Vec<f32>),
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorName {
    /// In `model.safetensors`, for example `transformer.h.0.attn.c_attn.weight`.
    pub hugging_face: String,
    /// Path of the parameter in the Burn module, for example `blocks.0.attn.c_attn.weight`.
    pub burn: String,
    /// For example `blk.0.attn_qkv.weight`.
    pub gguf: String,
    /// Shape in `model.safetensors`, slowest dimension first.
    pub shape: Vec<usize>,
    /// How its dimensions lie in each form.
    pub orientation: Orientation,
    /// How its output rows are ordered in each form.
    pub rows: RowOrder,
    /// Which expert's matrix this is: one of several rows of the table with one tensor in a GGUF.
    pub expert: Option<Expert>,
    /// What it is for.
    pub role: TensorUse,
    /// Where its values come from.
    pub source: Source,
    /// What is added to Hugging Face's and Burn's values to get those of a GGUF: 1 where a norm's
    /// weight counts from 1 (`conversion/gemma.py` of llama.cpp).
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

    /// The other tensor, by Hugging Face's name, whose values this one has in a GGUF.
    pub fn repeats(&self) -> Option<&str> {
        match &self.source {
            Source::Repeat(name) => Some(name),
            Source::Model | Source::Zeros | Source::Settings(_) => None,
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

    /// Values as Hugging Face stores them, arranged as the Burn module has them. Both row-major.
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

    /// The inverse of [`TensorName::to_burn`]; also for whatever has the shape of the parameter,
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

    /// Values of one output row. Rows are only reordered where they lie one after the other:
    /// in vectors, and in matrices `[out, in]`.
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
    // The dot of the prefix may be the one that the buffer's name begins with.
    let inner = hugging_face.get(prefix.len() - 1..).unwrap_or_default();
    hugging_face.starts_with(prefix) && buffers.iter().any(|end| inner.ends_with(end))
}

/// The three names of a layer, to which the names of its parameters are added.
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

    /// A parameter that lies the same in all forms; `kind` is what Hugging Face and GGUF call it.
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

    /// Burn calls the parameters of a normalisation `gamma` and `beta`.
    fn rms_norm(&self, width: usize) -> TensorName {
        self.row("weight", "gamma", &[width], TensorUse::Vector)
    }

    fn layer_norm(&self, width: usize) -> [TensorName; 2] {
        [self.rms_norm(width), self.row("bias", "beta", &[width], TensorUse::Vector)]
    }
}

#[cfg(test)]
mod tests;
