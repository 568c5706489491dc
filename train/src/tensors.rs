//! The tensors of the model and the optimizer for a checkpoint: with Hugging Face's names and
//! orientation, one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::HashMap;

use burn::tensor::Tensor;
use checkpoint::lora::factors;
use checkpoint::names::{self, TensorName};
use checkpoint::{CheckpointError, Tensors, Weights};
use config::{Lora, ModelConfig};
use model::Model;
use model::lora::is_target;
use model::parameters::Parameter;

use crate::optimizer::{Optimizer, State};

/// The trained parameters as rows of the table of names: every tensor of the model, or the factors
/// of its adapters.
pub fn trained(config: &ModelConfig, lora: &Lora) -> Vec<TensorName> {
    let table = names::tensors(config);
    if lora.rank == 0 {
        return table;
    }
    table
        .iter()
        .filter(|row| is_target(&row.burn, &lora.targets))
        .flat_map(|row| factors(row, lora.rank))
        .collect()
}

/// A set of tensors, by their names in a file.
pub struct View {
    entries: Vec<(String, Entry)>,
    index: HashMap<String, usize>,
}

struct Entry {
    row: TensorName,
    values: Tensor<1>,
}

impl View {
    /// The weights of a model, with adapters merged: `transformer.wte.weight` and so on.
    pub fn weights(model: &Model) -> Self {
        Self::parameters(names::tensors(model.config()), model.merged().parameters())
    }

    /// The factors of a model's adapters.
    pub fn adapters(model: &Model, trained: &[TensorName]) -> Self {
        Self::parameters(trained.to_vec(), model.trainable())
    }

    fn parameters(table: Vec<TensorName>, parameters: Vec<Parameter>) -> Self {
        let mut values: HashMap<String, Tensor<1>> =
            parameters.into_iter().map(|p| (p.path, p.values)).collect();
        Self::new(table.into_iter().filter_map(|row| {
            let values = values.remove(&row.burn)?;
            Some((row.hugging_face.clone(), Entry { row, values }))
        }))
    }

    /// The optimizer's state of the trained parameters: `transformer.wte.weight.exp_avg` and so on.
    pub fn optimizer(trained: &[TensorName], optimizer: &Optimizer) -> Self {
        Self::new(trained.iter().flat_map(|row| {
            let tensors = optimizer.states().get(&row.burn).map(State::tensors).unwrap_or_default();
            tensors.into_iter().map(|(name, values)| {
                let entry = Entry { row: row.clone(), values };
                (format!("{}.{name}", row.hugging_face), entry)
            })
        }))
    }

    fn new(entries: impl Iterator<Item = (String, Entry)>) -> Self {
        let entries: Vec<(String, Entry)> = entries.collect();
        let index = entries.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        View { entries, index }
    }
}

impl Tensors for View {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.entries.iter().map(|(name, entry)| (name.clone(), entry.row.shape.clone())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let missing =
            || CheckpointError::MissingTensor { path: "memory".into(), name: name.to_owned() };
        let Entry { row, values } = &self.entries[*self.index.get(name).ok_or_else(missing)?].1;
        Ok(Cow::Owned(row.from_burn(values.to_data().iter::<f32>().collect())))
    }
}

/// Reads weights, factors of adapters or moments back from a checkpoint's file.
pub struct Reader<'a> {
    table: HashMap<String, TensorName>,
    weights: &'a Weights,
}

impl<'a> Reader<'a> {
    /// Reads the tensors of `table` from `weights`.
    pub fn new(table: Vec<TensorName>, weights: &'a Weights) -> Self {
        let table = table.into_iter().map(|row| (row.burn.clone(), row)).collect();
        Reader { table, weights }
    }

    /// The weight at a Burn path, row-major in Burn's orientation.
    ///
    /// # Errors
    /// When the file does not have the tensor or it cannot be read.
    pub fn weight(&self, path: &str) -> Result<Vec<f32>, CheckpointError> {
        self.read(path, "")
    }

    /// A tensor of the optimizer's state for the weight at a Burn path, by its name there.
    ///
    /// # Errors
    /// As [`Reader::weight`].
    pub fn optimizer(&self, path: &str, name: &str) -> Result<Vec<f32>, CheckpointError> {
        self.read(path, &format!(".{name}"))
    }

    fn read(&self, path: &str, suffix: &str) -> Result<Vec<f32>, CheckpointError> {
        let missing = |name: String| CheckpointError::MissingTensor {
            path: self.weights.path().to_owned(),
            name,
        };
        let row = self.table.get(path).ok_or_else(|| missing(path.to_owned()))?;
        let name = format!("{}{suffix}", row.hugging_face);
        if self.weights.shape(&name)? != row.shape {
            return Err(CheckpointError::Shape {
                path: self.weights.path().to_owned(),
                found: self.weights.shape(&name)?.to_vec(),
                expected: row.shape.clone(),
                name,
            });
        }
        Ok(row.to_burn(self.weights.read_f32(&name)?))
    }
}
