//! Tensors by name, without walking the list for each.

use std::collections::HashMap;

use crate::{GgufError, TensorInfo};

/// Where each tensor stands in a list of them.
#[derive(Debug, Clone, Default)]
pub struct Places(HashMap<String, usize>);

impl Places {
    /// The places of `tensors`, whose names differ.
    pub fn of(tensors: &[TensorInfo]) -> Self {
        Places(tensors.iter().map(|tensor| tensor.name.clone()).zip(0..).collect())
    }

    /// Where the tensor called `name` stands.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if there is none.
    pub fn find(&self, name: &str) -> Result<usize, GgufError> {
        let place = self.0.get(name).copied();
        place.ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })
    }
}
