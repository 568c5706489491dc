//! Loads tensors by name, after all of them were checked against the settings.

use std::collections::HashSet;

use gguf::{TensorInfo, TensorSource};

use crate::ReferenceError;

/// The tensor that a model expects under a name; shape slowest dimension first.
pub(crate) struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Refuses a source whose tensors are not exactly the expected ones, by name and shape.
///
/// # Errors
/// A missing tensor, a wrong shape or an unexpected tensor, by name.
pub(crate) fn check(
    source: &dyn TensorSource,
    expected: &[Expected],
    architecture: &'static str,
) -> Result<(), ReferenceError> {
    for Expected { name, shape } in expected {
        let found = &source.tensor(name)?.shape;
        let expected: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
        if *found != expected {
            let (name, found) = (name.clone(), found.clone());
            return Err(ReferenceError::Shape { name, expected, found });
        }
    }
    let names: HashSet<&str> = expected.iter().map(|e| e.name.as_str()).collect();
    let stranger = |tensor: &&TensorInfo| !names.contains(tensor.name.as_str());
    match source.tensors().iter().find(stranger) {
        Some(TensorInfo { name, .. }) => {
            Err(ReferenceError::UnexpectedTensor { name: name.clone(), architecture })
        }
        None => Ok(()),
    }
}

/// The tensor called `name`, dequantized, row-major.
pub(crate) fn read(source: &dyn TensorSource, name: &str) -> Result<Vec<f32>, ReferenceError> {
    Ok(gguf::read_f32(source, source.tensor(name)?)?)
}
