//! [`crate::cpu::attention`] in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::attention::{self, Attention, HeadGradients, Inputs, Part};
use crate::graph::{apply, numbers, raw};
use crate::pass::Precision;

/// What the backward pass needs; the inputs are one joined matrix, or three.
#[derive(Debug, Clone)]
struct State<const N: usize> {
    shape: Attention,
    precision: Precision,
    inputs: [Raw; N],
    y: Raw,
    logs: Vec<f32>,
}

#[derive(Debug)]
struct AttentionBackward;

impl<const N: usize> State<N> {
    fn gradients(&self, dy: &Raw) -> HeadGradients {
        let State { shape, precision, y, logs, .. } = self;
        let inputs = self.inputs.each_ref().map(numbers);
        let inputs = inputs_of(shape, inputs.each_ref().map(|numbers| numbers.as_ref()));
        let (output, dy) = (numbers(y), numbers(dy));
        with_math!(precision, |math| {
            attention::attention_backward(math, shape, inputs, (&output, logs), &dy)
        })
    }
}

fn inputs_of<'a, const N: usize>(shape: &Attention, inputs: [&'a [f32]; N]) -> Inputs<'a> {
    match inputs[..] {
        [q, k, v] => Inputs::separate(shape, q, k, v),
        _ => Inputs::joined(shape, inputs[0]),
    }
}

/// Which parts each of the inputs contains.
fn parts_of<const N: usize>(input: usize) -> &'static [Part] {
    const ALL: [Part; 3] = [Part::Q, Part::K, Part::V];
    if N == 1 { &ALL } else { &ALL[input..=input] }
}

impl<const N: usize> Backward<Flex, N> for AttentionBackward {
    type State = State<N>;

    fn backward(self, ops: Ops<State<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let rows = ops.state.shape.batch * ops.state.shape.time;
        let gradients = ops.state.gradients(&dy);
        for (input, parent) in ops.parents.into_iter().enumerate() {
            let Some(parent) = parent else { continue };
            let gradient = gradients.side_by_side(parts_of::<N>(input));
            let columns = gradient.len() / rows.max(1);
            grads.register::<Flex>(parent.id, raw(gradient, [rows, columns]));
        }
    }
}

fn attend<const N: usize>(
    inputs: [Tensor<2>; N],
    shape: Attention,
    precision: Precision,
) -> Tensor<2> {
    let operands = inputs.map(Operand::new);
    apply(AttentionBackward, operands.each_ref(), |wants_state| {
        let (y, logs) = {
            let inputs = operands.each_ref().map(Operand::numbers);
            let inputs = inputs_of(&shape, inputs.each_ref().map(|numbers| numbers.as_ref()));
            with_math!(precision, |math| attention::attention(math, &shape, inputs))
        };
        let y = raw(y, [shape.batch * shape.time, shape.heads * shape.width]);
        let state = wants_state.then(|| State {
            shape,
            precision,
            inputs: operands.each_ref().map(|operand| operand.raw.clone()),
            y: y.clone(),
            logs,
        });
        (y, state)
    })
}

/// Shapes as in [`crate::causal_attention`].
pub(crate) fn causal_attention(
    qkv: Tensor<2>,
    shape: Attention,
    precision: Precision,
) -> Tensor<2> {
    attend([qkv], shape, precision)
}

/// Shapes as in [`crate::grouped_attention`].
pub(crate) fn grouped_attention(
    inputs: [Tensor<2>; 3],
    shape: Attention,
    precision: Precision,
) -> Tensor<2> {
    attend(inputs, shape, precision)
}
