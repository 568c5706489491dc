//! [`crate::cpu::layer_norm`] and [`crate::cpu::rms_norm`] in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::layer_norm::{self, RowStatistics};
use crate::cpu::rms_norm;
use crate::graph::{apply, numbers, raw};
use isa::Isa;

#[derive(Debug, Clone)]
struct LayerNormState {
    x: Raw,
    gamma: Raw,
    statistics: Vec<RowStatistics>,
}

#[derive(Debug)]
struct LayerNormBackward;

impl Backward<Flex, 3> for LayerNormBackward {
    type State = LayerNormState;

    fn backward(self, ops: Ops<LayerNormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let LayerNormState { x, gamma, statistics } = &ops.state;
        let (x, gamma) = (numbers(x), numbers(gamma));
        let columns = gamma.len();
        let rows = statistics.len();
        let (dx, dgamma, dbeta) =
            layer_norm::layer_norm_backward(Isa::best(), &x, &gamma, statistics, &numbers(&dy));
        let gradients = [raw(dx, [rows, columns]), raw(dgamma, [columns]), raw(dbeta, [columns])];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Shapes as in [`crate::layer_norm`].
pub(crate) fn layer_norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f32,
) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let (x, gamma, beta) = (Operand::new(x), Operand::new(gamma), Operand::new(beta));
    apply(LayerNormBackward, [&x, &gamma, &beta], |wants_state| {
        let mut y = vec![0.0; rows * columns];
        let statistics = layer_norm::layer_norm(
            Isa::best(),
            &x.numbers(),
            &gamma.numbers(),
            &beta.numbers(),
            epsilon,
            &mut y,
        );
        let state = LayerNormState { x: x.raw.clone(), gamma: gamma.raw.clone(), statistics };
        (raw(y, [rows, columns]), Some(state).filter(|_| wants_state))
    })
}

#[derive(Debug, Clone)]
struct RmsNormState {
    x: Raw,
    gamma: Raw,
    scales: Vec<f32>,
}

#[derive(Debug)]
struct RmsNormBackward;

impl Backward<Flex, 2> for RmsNormBackward {
    type State = RmsNormState;

    fn backward(self, ops: Ops<RmsNormState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let RmsNormState { x, gamma, scales } = &ops.state;
        let (x, gamma) = (numbers(x), numbers(gamma));
        let (rows, columns) = (scales.len(), gamma.len());
        let (dx, dgamma) =
            rms_norm::rms_norm_backward(Isa::best(), &x, &gamma, scales, &numbers(&dy));
        let gradients = [raw(dx, [rows, columns]), raw(dgamma, [columns])];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Shapes as in [`crate::rms_norm`].
pub(crate) fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let (x, gamma) = (Operand::new(x), Operand::new(gamma));
    apply(RmsNormBackward, [&x, &gamma], |wants_state| {
        let mut y = vec![0.0; rows * columns];
        let scales =
            rms_norm::rms_norm(Isa::best(), &x.numbers(), &gamma.numbers(), epsilon, &mut y);
        let state = RmsNormState { x: x.raw.clone(), gamma: gamma.raw.clone(), scales };
        (raw(y, [rows, columns]), Some(state).filter(|_| wants_state))
    })
}
