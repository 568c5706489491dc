//! The plan of the output: how every tensor is converted, decided before any weight is read.

use anyhow::bail;
use gguf::{Layout, Metadata, TensorInfo, TensorSource, TensorType, Value};
use serde::Serialize;

use crate::{Calibration, Choice, Importance, Recipe, Rules};

/// The layout of the blocks, `GGML_QNT_VERSION` of `ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;

/// The weights of the errors of a matrix's columns.
#[derive(Clone, Copy)]
pub(crate) enum ColumnWeights<'a> {
    /// The same weight for all columns.
    Equal,
    /// From a file of importance data.
    Imported(&'a Importance),
    /// Measured by a search on its calibration text.
    Measured,
}

impl<'a> ColumnWeights<'a> {
    /// The importance data, if it comes from a file.
    pub fn imported(self) -> Option<&'a Importance> {
        match self {
            ColumnWeights::Imported(importance) => Some(importance),
            ColumnWeights::Equal | ColumnWeights::Measured => None,
        }
    }
}

/// The plan of the output file.
pub(crate) struct FilePlan<'a> {
    source: &'a dyn TensorSource,
    metadata: Metadata,
    choices: Vec<Choice>,
    layout_before: Layout,
    layout_after: Layout,
}

impl<'a> FilePlan<'a> {
    /// # Errors
    /// When the rules do not know the model, a tensor is quantized already and `requantize` is
    /// false, or a tensor has no importance data although the recipe requires it.
    pub fn new(
        source: &'a dyn TensorSource,
        rules: &Rules,
        weights: ColumnWeights<'_>,
        requantize: bool,
    ) -> anyhow::Result<Self> {
        let weighed = !matches!(weights, ColumnWeights::Equal);
        let choices = rules.choose(source.metadata(), source.tensors(), weighed)?;
        let mut metadata = source.metadata().without("split.");
        // This key ends every prompt before it is answered, and llama.cpp's own programs abort on
        // it.
        const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
        if metadata.get(ADD_EOS) == Some(&Value::Bool(true)) {
            metadata.set(ADD_EOS, Value::Bool(false));
        }
        metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        metadata.set("general.file_type", Value::U32(rules.recipe.file_type().number()));
        if let Some(importance) = weights.imported() {
            importance.describe(&mut metadata);
        }
        let stored: Vec<_> = source.tensors().iter().map(|t| t.tensor_type).collect();
        let chosen: Vec<_> = choices.iter().map(|choice| choice.tensor_type).collect();
        let plan = FilePlan {
            layout_before: Layout::plan(source.metadata(), &described(source, &stored))?,
            layout_after: Layout::plan(&metadata, &described(source, &chosen))?,
            source,
            metadata,
            choices,
        };
        for (tensor, to) in plan.tensors() {
            if !requantize {
                refuse_second_time(tensor, to)?;
            }
            refuse_without_importance(tensor, to, rules.recipe, weights)?;
        }
        Ok(plan)
    }

    /// Records in the file how its codes were found.
    pub fn describe_search(&mut self, calibration: &Calibration) {
        let tokens = u32::try_from(calibration.tokens()).unwrap_or(u32::MAX);
        self.metadata.set("quantize.search.calibration_tokens", Value::U32(tokens));
    }

    /// The same plan, with weights from another source of the same tensors.
    ///
    /// # Errors
    /// When the metadata does not fit into a GGUF.
    pub fn reading(self, source: &'a dyn TensorSource) -> anyhow::Result<Self> {
        let chosen: Vec<_> = self.choices.iter().map(|choice| choice.tensor_type).collect();
        let layout_after = Layout::plan(&self.metadata, &described(source, &chosen))?;
        Ok(FilePlan { source, layout_after, ..self })
    }

    /// The source of the weights.
    pub fn source(&self) -> &'a dyn TensorSource {
        self.source
    }

    /// The keys of the output.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors as they are stored now, each with its type in the output.
    pub fn tensors(&self) -> impl Iterator<Item = (&'a TensorInfo, TensorType)> {
        let types = self.choices.iter().map(|choice| choice.tensor_type);
        self.source.tensors().iter().zip(types)
    }

    /// Name, shape and type of each tensor in the output.
    pub fn described(&self) -> Vec<(String, Vec<u64>, TensorType)> {
        let chosen: Vec<_> = self.choices.iter().map(|choice| choice.tensor_type).collect();
        described(self.source, &chosen)
    }

    /// Bytes of the input as one GGUF.
    pub fn bytes_before(&self) -> u64 {
        self.layout_before.file_size
    }

    /// Bytes of the output.
    pub fn bytes_after(&self) -> u64 {
        self.layout_after.file_size
    }

    /// Tensors that could not get the type that the rules chose.
    pub fn fallbacks(&self) -> Vec<Fallback> {
        let tensors = self.source.tensors().iter().zip(&self.choices);
        tensors
            .filter_map(|(tensor, choice)| {
                let wanted = choice.instead_of?;
                Some(Fallback {
                    tensor: tensor.name.clone(),
                    wanted: wanted.name(),
                    got: choice.tensor_type.name(),
                    row_len: tensor.row_len(),
                    block_len: wanted.block_len(),
                })
            })
            .collect()
    }

    /// Tensors that are rounded without weights for their columns although there is importance
    /// data.
    pub fn without_importance(&self, importance: &Importance) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for (tensor, to) in self.tensors() {
            if to.is_quantized() && to != tensor.tensor_type && importance.of(tensor)?.is_none() {
                names.push(tensor.name.clone());
            }
        }
        Ok(names)
    }
}

fn described(
    source: &dyn TensorSource,
    types: &[TensorType],
) -> Vec<(String, Vec<u64>, TensorType)> {
    let tensors = source.tensors().iter().zip(types);
    tensors.map(|(tensor, &to)| (tensor.name.clone(), tensor.shape.clone(), to)).collect()
}

fn refuse_second_time(tensor: &TensorInfo, to: TensorType) -> anyhow::Result<()> {
    let from = tensor.tensor_type;
    if from.is_quantized() && from != to {
        bail!(
            "tensor {} is {from} already, and quantizing twice adds up both errors; start from the \
             F32, F16 or BF16 file, or use --requantize",
            tensor.name,
        );
    }
    Ok(())
}

/// With two bits and without importance data a model is not usable, unless larger types are mixed
/// in.
fn refuse_without_importance(
    tensor: &TensorInfo,
    to: TensorType,
    recipe: Recipe,
    weights: ColumnWeights<'_>,
) -> anyhow::Result<()> {
    let is_end = ["token_embd.weight", "per_layer_token_embd.weight", "output.weight"]
        .contains(&tensor.name.as_str());
    if !recipe.needs_importance() || to != recipe.base_type() || is_end {
        return Ok(());
    }
    match weights {
        ColumnWeights::Equal => {
            bail!("{recipe} needs importance data: use --imatrix or --search, or Q2_K")
        }
        ColumnWeights::Imported(data) if data.of(tensor)?.is_none() => bail!(
            "tensor {}: {recipe} needs importance data for it, which {} does not hold",
            tensor.name,
            data.path.display()
        ),
        ColumnWeights::Imported(_) | ColumnWeights::Measured => Ok(()),
    }
}

/// A tensor whose rows are not a whole number of blocks of the type that the recipe chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// Its name.
    pub tensor: String,
    /// The type that the recipe chose.
    pub wanted: &'static str,
    /// The type that it got.
    pub got: &'static str,
    /// Weights in one of its rows.
    pub row_len: usize,
    /// Weights in a block of the chosen type.
    pub block_len: usize,
}
