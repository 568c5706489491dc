//! Rows of a table, and their gradient, which is summed for a row that was taken more than once.

use burn::tensor::{Int, Tensor, TensorData};

use super::product::product;
use super::{piece, raw, rounded, same};
use crate::graph::{KernelBackend, Operand, join};
use crate::pass::Precision;

/// Shapes as in [`crate::embedding`].
///
/// The gradient is a product with a matrix that has a 1 where row `v` was taken. Burn's own
/// gradient scatters one row after the other, and scattering all rows at once would add them in an
/// order that changes from run to run.
pub(crate) fn embedding<B: KernelBackend>(
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
        let numbers = (0..v).map(|number| number as f32).collect();
        let numbers = Tensor::<2>::from_data(TensorData::new(numbers, [v, 1]), &dy.device());
        let rows = piece(n, v);
        let blocks = (0..n).step_by(rows).map(|start| {
            let end = (start + rows).min(n);
            let ids = ids.clone().narrow(0, start, end - start).float().unsqueeze::<2>(); // [1, rows]
            let ones = rounded(same(ids, numbers.clone()), precision); // [V, rows]
            product::<B, 2>(ones, rounded(dy.clone().slice([start..end, 0..c]), precision))
        });
        [blocks.reduce(|sum, block| sum + block).map(raw::<B, 2>)]
    })
}
