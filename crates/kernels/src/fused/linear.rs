//! [`crate::cpu::linear`] in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::graph::{Operand, Raw, apply, numbers, raw};
use crate::cpu::isa::Isa;
use crate::cpu::linear::{self, Shape};
use crate::pass::Precision;

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct State {
    shape: Shape,
    precision: Precision,
    x: Raw,
    weight: Raw,
}

#[derive(Debug)]
struct LinearBackward;

impl State {
    fn input_gradient(&self, dy: &[f32]) -> Raw {
        let weight = numbers(&self.weight);
        let dx = with_math!(self.precision, |math| {
            linear::input_gradient(math, self.shape, &weight, dy)
        });
        raw(dx, [self.shape.rows, self.shape.input])
    }

    fn weight_gradient(&self, dy: &[f32]) -> Raw {
        let x = numbers(&self.x);
        let dw = with_math!(self.precision, |math| {
            linear::weight_gradient(math, self.shape, &x, dy)
        });
        raw(dw, [self.shape.input, self.shape.output])
    }
}

/// The parents are `x`, the weight, and the bias where there is one.
impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let dy = numbers(&dy);
        for (i, parent) in ops.parents.into_iter().enumerate() {
            let Some(parent) = parent else { continue };
            let gradient = match i {
                0 => ops.state.input_gradient(&dy),
                1 => ops.state.weight_gradient(&dy),
                _ => raw(
                    linear::bias_gradient(Isa::best(), ops.state.shape, &dy),
                    [ops.state.shape.output],
                ),
            };
            grads.register::<Flex>(parent.id, gradient);
        }
    }
}

/// `x W + b`; shapes as in [`crate::linear`].
pub(crate) fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let ([rows, input], [_, output]) = (x.dims(), weight.dims());
    let shape = Shape { rows, input, output };
    let (x, weight, bias) = (Operand::new(x), Operand::new(weight), bias.map(Operand::new));
    let run = |wants_state| {
        let numbers = (x.numbers(), weight.numbers(), bias.as_ref().map(Operand::numbers));
        let y = with_math!(precision, |math| {
            linear::linear(math, shape, &numbers.0, &numbers.1, numbers.2.as_deref())
        });
        let state = State { shape, precision, x: x.raw.clone(), weight: weight.raw.clone() };
        (raw(y, [rows, output]), Some(state).filter(|_| wants_state))
    };
    match &bias {
        Some(bias) => apply(LinearBackward, [&x, &weight, bias], run),
        None => apply(LinearBackward, [&x, &weight], run),
    }
}
