//! Rows of a table, and the gradient that adds up where a row was taken more than once.

use burn::tensor::{FloatDType, Int, Tensor};

use super::product::product;
use super::{raw, rounded};
use crate::graph::{Home, Operand, join};
use crate::pass::Precision;

/// Rows of the output that one product adds up: bounds what its matrix of zeros and ones takes.
const ROWS: usize = 4096;

/// Shapes as in [`crate::embedding`].
///
/// The gradient is a product with the matrix that has a one where row `v` was taken: Burn's own
/// scatters one row after the other, and one that scatters all at once would have to add in an
/// order that changes from run to run.
pub(crate) fn embedding<B: Home>(
    weight: Tensor<2>,
    ids: Tensor<1, Int>,
    precision: Precision,
) -> Tensor<2> {
    let (weight, ids) = (Operand::<B>::new(weight), ids.inner());
    let table = weight.tensor::<2>();
    let [v, _] = table.dims();
    let y = table.select(0, ids.clone());
    join([&weight], y, move |dy: Tensor<2>, _| {
        let [n, c] = dy.dims();
        let numbers = Tensor::<1, Int>::arange(0..v as i64, &dy.device()).unsqueeze_dim(1); // [V, 1]
        let blocks = (0..n).step_by(ROWS).map(|start| {
            let end = (start + ROWS).min(n);
            let ids = ids.clone().slice([start..end]).unsqueeze::<2>(); // [1, rows]
            let ones = ids.equal(numbers.clone()).float().cast(dtype(precision)); // [V, rows]
            product::<B, 2>(ones, rounded(dy.clone().slice([start..end, 0..c]), precision))
        });
        [blocks.reduce(|sum, block| sum + block).map(raw::<B, 2>)]
    })
}

fn dtype(precision: Precision) -> FloatDType {
    match precision {
        Precision::F32 => FloatDType::F32,
        Precision::Bf16 => FloatDType::BF16,
    }
}
