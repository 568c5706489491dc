//! Accumulates gradients over several backward passes without a second set of gradients.

use burn::backend::Flex;
use burn::tensor::Tensor;

use crate::dispatch::{Dispatch, dispatch};
use crate::gpu::Gpu;
use crate::graph;

/// Returns the loss unchanged; its backward pass adds the gradient of `parameter` to `gradient`.
///
/// Burn makes a new set of gradients in each backward pass. A gradient that is passed here exists
/// before the pass begins, so that at any time only one parameter has two gradients.
///
/// # Shapes
/// `loss [1]`; `gradient` has the shape of `parameter` and is outside of any graph.
pub fn accumulate_gradient<const RANK: usize>(
    loss: Tensor<1>,
    parameter: Tensor<RANK>,
    gradient: Tensor<RANK>,
) -> Tensor<1> {
    match dispatch(&loss.device()) {
        Dispatch::Cpu => graph::accumulate_gradient::<Flex, RANK>(loss, parameter, gradient),
        Dispatch::Gpu => graph::accumulate_gradient::<Gpu, RANK>(loss, parameter, gradient),
        Dispatch::Plain => {
            // Its value is zero, and its gradient with respect to the parameter is `gradient`.
            let nothing = (parameter.clone() - parameter.detach()) * gradient.autodiff();
            loss + nothing.sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{Precision, embedding, linear, random};

    #[test]
    fn two_passes_add_up() {
        let device = Device::flex().autodiff();
        let draw = |name, shape: [usize; 2]| {
            let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        let (table, weight) = (draw("table", [4, 5]), draw("w", [5, 3]));
        let loss = |ids: [i32; 2]| {
            let x =
                embedding(table.clone(), Tensor::from_ints(ids, &Device::flex()), Precision::F32);
            linear(x, weight.clone(), None, Precision::F32).square().sum()
        };
        let gradients = |loss: Tensor<1>| {
            let grads = loss.backward();
            [&table, &weight].map(|parameter| parameter.grad(&grads).unwrap())
        };
        let [first, second] = [gradients(loss([0, 2])), gradients(loss([2, 3]))];
        let before = loss([2, 3]);
        let [dtable, dweight] = first.clone();
        let accumulated = accumulate_gradient(before.clone(), table.clone(), dtable);
        let accumulated = accumulate_gradient(accumulated, weight.clone(), dweight);
        assert_eq!(accumulated.clone().inner().into_data(), before.inner().into_data());
        for ((sum, first), second) in gradients(accumulated).into_iter().zip(first).zip(second) {
            sum.into_data().assert_approx_eq::<f32>(
                &(first + second).into_data(),
                burn::tensor::Tolerance::relative(1e-6),
            );
        }
    }
}
