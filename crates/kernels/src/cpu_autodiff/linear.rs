//! [`crate::cpu::linear`] in the graph, alone or together with the activation before it.
//!
//! The output of an activation is as large as its input, and a linear layer would keep it for its
//! own gradient. Here it is computed again from the inputs that the activation keeps anyway.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::linear::{self, Shape};
use crate::cpu::{elementwise, swiglu};
use crate::graph::{apply, numbers, raw};
use crate::pass::Precision;
use isa::Isa;

/// The input of a linear layer.
#[derive(Debug, Clone)]
enum Input<T> {
    /// `x`
    Plain(T),
    /// `gelu(x)`
    Gelu(T),
    /// `silu(gate) * up`
    Swiglu(T, T),
}

impl<T> Input<T> {
    fn map<U>(self, f: impl Fn(T) -> U) -> Input<U> {
        match self {
            Input::Plain(x) => Input::Plain(f(x)),
            Input::Gelu(x) => Input::Gelu(f(x)),
            Input::Swiglu(gate, up) => Input::Swiglu(f(gate), f(up)),
        }
    }

    /// Number of tensors that this input consists of.
    fn count(&self) -> usize {
        if let Input::Swiglu(..) = self { 2 } else { 1 }
    }
}

impl Input<Raw> {
    /// The rows that are multiplied with the weight.
    fn numbers(&self) -> Cow<'_, [f32]> {
        let isa = Isa::best();
        match self {
            Input::Plain(x) => numbers(x),
            Input::Gelu(x) => {
                let x = numbers(x);
                let mut y = vec![0.0; x.len()];
                elementwise::gelu(isa, &x, &mut y);
                Cow::Owned(y)
            }
            Input::Swiglu(gate, up) => {
                let (gate, up) = (numbers(gate), numbers(up));
                let mut y = vec![0.0; gate.len()];
                swiglu::swiglu(isa, &gate, &up, &mut y);
                Cow::Owned(y)
            }
        }
    }

    /// Computes the gradients of the input tensors from the gradient of those rows.
    fn gradients(&self, mut dy: Vec<f32>) -> Vec<Vec<f32>> {
        match self {
            Input::Plain(_) => vec![dy],
            Input::Gelu(x) => {
                elementwise::gelu_backward(Isa::best(), &numbers(x), &mut dy);
                vec![dy]
            }
            Input::Swiglu(gate, up) => {
                let (gate, up) = (numbers(gate), numbers(up));
                let dgate = swiglu::swiglu_backward(Isa::best(), &gate, &up, &mut dy);
                vec![dgate, dy]
            }
        }
    }
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct State {
    shape: Shape,
    precision: Precision,
    input: Input<Raw>,
    weight: Raw,
}

#[derive(Debug)]
struct LinearBackward;

impl State {
    fn input_gradients(&self, dy: &[f32]) -> Vec<Raw> {
        let weight = numbers(&self.weight);
        let dx = with_math!(self.precision, |math| {
            linear::input_gradient(math, self.shape, &weight, dy)
        });
        let shape = [self.shape.rows, self.shape.input];
        self.input.gradients(dx).into_iter().map(|gradient| raw(gradient, shape)).collect()
    }

    fn weight_gradient(&self, dy: &[f32]) -> Raw {
        let x = self.input.numbers();
        let dw = with_math!(self.precision, |math| {
            linear::weight_gradient(math, self.shape, &x, dy)
        });
        raw(dw, [self.shape.input, self.shape.output])
    }

    fn bias_gradient(&self, dy: &[f32]) -> Raw {
        raw(linear::bias_gradient(Isa::best(), self.shape, dy), [self.shape.output])
    }
}

/// The parents are the inputs, the weight, and the bias if there is one.
impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (state, dy) = (&ops.state, numbers(&dy));
        let (inputs, parameters) = ops.parents.split_at(state.input.count());
        if inputs.iter().any(Option::is_some) {
            for (parent, gradient) in inputs.iter().zip(state.input_gradients(&dy)) {
                if let Some(parent) = parent {
                    grads.register::<Flex>(parent.id, gradient);
                }
            }
        }
        for (i, parent) in parameters.iter().enumerate() {
            let Some(parent) = parent else { continue };
            let gradient =
                if i == 0 { state.weight_gradient(&dy) } else { state.bias_gradient(&dy) };
            grads.register::<Flex>(parent.id, gradient);
        }
    }
}

fn apply_linear(
    input: Input<Tensor<2>>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let [input_columns, output] = weight.dims();
    let input = input.map(Operand::new);
    let kept = input.clone().map(|operand| operand.raw);
    let (weight, bias) = (Operand::new(weight), bias.map(Operand::new));
    let run = |wants_state: bool| {
        let x = kept.numbers();
        let shape = Shape { rows: x.len() / input_columns, input: input_columns, output };
        let (weight_numbers, bias) = (weight.numbers(), bias.as_ref().map(Operand::numbers));
        let y = with_math!(precision, |math| {
            linear::linear(math, shape, &x, &weight_numbers, bias.as_deref())
        });
        let (input, weight) = (kept.clone(), weight.raw.clone());
        let state = wants_state.then_some(State { shape, precision, input, weight });
        (raw(y, [shape.rows, output]), state)
    };
    match (&input, &bias) {
        (Input::Plain(x) | Input::Gelu(x), None) => apply(LinearBackward, [x, &weight], run),
        (Input::Plain(x) | Input::Gelu(x), Some(bias)) => {
            apply(LinearBackward, [x, &weight, bias], run)
        }
        (Input::Swiglu(gate, up), None) => apply(LinearBackward, [gate, up, &weight], run),
        (Input::Swiglu(gate, up), Some(bias)) => {
            apply(LinearBackward, [gate, up, &weight, bias], run)
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
    apply_linear(Input::Plain(x), weight, bias, precision)
}

/// Shapes as in [`crate::gelu_linear`].
pub(crate) fn gelu_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    apply_linear(Input::Gelu(x), weight, bias, precision)
}

/// Shapes as in [`crate::swiglu_linear`].
pub(crate) fn swiglu_linear(
    gate: Tensor<2>,
    up: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    apply_linear(Input::Swiglu(gate, up), weight, bias, precision)
}
