//! Makes a tensor from slices.

use burn::backend::Flex;
use burn::tensor::Tensor;

use super::Operand;
use crate::graph::{into_numbers, raw};

/// Shapes as in [`crate::rewrite()`].
pub(crate) fn rewrite<E>(
    source: &Tensor<1>,
    target: Tensor<1>,
    work: impl FnOnce(&[f32], &mut [f32]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    let source = Operand::new(source.clone());
    let mut numbers = into_numbers(Operand::new(target).raw);
    work(&source.numbers(), &mut numbers)?;
    let shape = [numbers.len()];
    Ok(Tensor::from_primitive::<Flex>(raw(numbers, shape)))
}
